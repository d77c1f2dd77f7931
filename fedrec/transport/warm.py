"""Runs an app's tasks in processes that have its modules loaded: `python -m fedrec.transport.warm APP OPTIONS`.

Flower starts a new interpreter for every message, which needs seconds for its imports. Here a parent without threads
imports the app once and forks. A run of the ServerApp has a child of its own. One child receives all messages to a
node, in order, and keeps the node's users between them. If that child dies, this process ends too: the SuperNode might
wait forever for its reply, and `fedrec client start` restarts both.
APP is "module:name"; OPTIONS are those of `flower-superexec`.
"""

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from fedrec.transport import interfaces
from fedrec.transport.doorbell import Doorbell

log = logging.getLogger("fedrec.transport")

PRELOAD = "FEDREC_PRELOAD"
"""Environment variable with the modules that the parent imports besides the app, commas between."""

NODE_DIED = 4
"""Exit code of this process after the child that answers for a node has died."""


class WarmExecutor:
    """Flower's `Executor`: takes every task, and forks."""

    def __init__(self, app: Any) -> None:
        self._app, self._parent = app, os.getpid()
        self._last = time.monotonic()
        self._children: set[int] = set()
        self._runs: dict[int, Any] = {}
        self._node: tuple[int, Connection] | None = None

    def get_eligible_capacity(self, supported: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
        """Every task; no agents."""
        return supported, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        """Return at once: messages to a node wait in its pipe."""

    def launch(self, spec: Any) -> Any:
        """Hand the task to a child."""
        self._last = time.monotonic()
        self.reconcile()
        if not interfaces.is_client_task(spec):
            self._runs[self._fork(lambda: interfaces.run_server_task(spec, self._app))] = spec
            return interfaces.accepted()
        if self._node is None:
            self._node = self._fork_node()
        try:
            self._node[1].send_bytes(_packed(spec))
        except BrokenPipeError:  # the child died just now and is not yet reaped
            sys.exit(NODE_DIED)
        return interfaces.accepted()

    def idle(self) -> float:
        """Seconds since the last task."""
        return time.monotonic() - self._last

    def reconcile(self) -> None:
        """Note which children have ended.

        Raises:
            SystemExit: when the child that answers for the node has ended.
        """
        for child in list(self._children):
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            self._children.discard(child)
            if status:
                log.warning("a task's process ended with status %d", os.waitstatus_to_exitcode(status))
            if self._node is not None and self._node[0] == child:
                sys.exit(NODE_DIED)
            spec = self._runs.pop(child, None)
            if spec is not None and os.WIFSIGNALED(status):
                self._fork(partial(interfaces.report_failure, spec))

    def close(self) -> None:
        """End the children."""
        if os.getpid() != self._parent:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self._children:
                os.kill(child, number)
            _wait(self._children, seconds=5.0)

    def _fork_node(self) -> tuple[int, Connection]:
        receiving, sending = Pipe(duplex=False)

        def work() -> None:
            sending.close()
            while True:
                try:
                    content = receiving.recv_bytes()
                except EOFError:  # the parent is gone
                    return
                interfaces.run_client_task(_unpacked(content), self._app)

        child = self._fork(work)
        receiving.close()
        return child, sending

    def _fork(self, work: Callable[[], None]) -> int:
        if threading.active_count() > 1:
            raise RuntimeError("the parent has threads; a fork would copy their locks")
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            self._children.add(child)
            return child
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            interfaces.forget_exit_handlers()
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            log.error("a task ended by %s", type(error).__name__)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _wait(children: set[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while children and time.monotonic() < end:
        for child in list(children):
            if os.waitpid(child, os.WNOHANG)[0]:
                children.discard(child)
        time.sleep(0.02)


_FIELDS = ("runtime_api_address", "token", "root_certificates_path")


def _packed(spec: Any) -> bytes:
    values = {name: getattr(spec, name) for name in (*_FIELDS, "insecure")}
    return json.dumps(values).encode()


def _unpacked(content: bytes) -> Any:
    return SimpleNamespace(**json.loads(content))


def main() -> None:
    """Import the app, then take tasks until the parent's signal."""
    name = sys.argv.pop(1)
    module, _, attribute = name.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    for module in filter(None, os.environ.get(PRELOAD, "torch").split(",")):  # torch's threads start in a child
        importlib.import_module(module)
    logging.getLogger("flwr").propagate = False  # Flower prints its lines itself; a root handler would repeat them
    bell = Doorbell.of_environment()
    interfaces.executor_with(WarmExecutor(app), None if bell is None else bell.wait)()


if __name__ == "__main__":
    main()
