"""Processes that answer over a socket, and send SIGKILL to themselves at a chosen moment."""

import contextlib
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any


class Fatal:
    """Counts the moments of this process, and ends it at the one that `left` holds. left: 0 for never."""

    def __init__(self, left: Any) -> None:
        self._left = left

    def point(self) -> None:
        if self._left.value > 0:
            self._left.value -= 1
            if self._left.value == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self.point()
            result = call(*arguments, **named)
            self.point()
            return result

        return watched

    def watch(self) -> None:
        for name in ("fsync", "replace", "rename", "link"):
            setattr(os, name, self.around(getattr(os, name)))


def serve(place: Path, work: Callable[[Any], Any], fatal: Fatal) -> None:
    """Answer requests, one after the other, until this process dies."""
    place.unlink(missing_ok=True)
    with connection.Listener(str(place)) as listener:
        while True:
            with listener.accept() as caller:
                asked = pickle.loads(caller.recv_bytes())
                fatal.point()
                answer = pickle.dumps(work(asked))
                fatal.point()
                with contextlib.suppress(OSError):  # the server has died
                    caller.send_bytes(answer)


def call(place: Path, asked: Any) -> Any:
    """Ask a process. Raises: OSError or EOFError where it is not there, or dies before its answer."""
    with connection.Client(str(place)) as link:
        link.send_bytes(pickle.dumps(asked))
        return pickle.loads(link.recv_bytes())
