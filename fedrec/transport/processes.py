"""Child processes that end with their parent: by the end of a `with`, by a signal, or by the parent's death."""

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fedrec.errors import FedrecError

GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL."""

LONG_LOG = 10_000_000
"""Bytes of a log above which a restart renames it."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessEnded(FedrecError):
    """A process ended too early; the line names its log."""


class Child:
    """One process. Its output goes to `log`, which only its owner can read. A long old log is renamed first."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        if log.exists() and log.stat().st_size > LONG_LOG:
            os.replace(log, log.with_name(f"{log.name}.1"))
        self.start = self._read = log.stat().st_size if log.exists() else 0
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )
        finally:
            os.close(output)

    @property
    def code(self) -> int | None:
        """The exit code; None while the process runs."""
        return self.process.poll()

    @property
    def text(self) -> str:
        """All output since the start."""
        return self._from(self.start).decode("utf-8", "replace")

    def news(self) -> str:
        """Return the output since the last call."""
        content = self._from(self._read)
        self._read += len(content)
        return content.decode("utf-8", "replace")

    def _from(self, position: int) -> bytes:
        with self.log.open("rb") as file:
            file.seek(position)
            return file.read()

    def last_lines(self, count: int = 3) -> str:
        """Return the last lines of the output, for readers."""
        return "\n".join(self.text.strip().splitlines()[-count:])

    def ask(self) -> None:
        """Send SIGTERM to the process and its descendants."""
        self._signal(signal.SIGTERM)

    def end(self, grace: float = GRACE) -> None:
        """Send SIGTERM to the process and its descendants, and SIGKILL after `grace` seconds."""
        self.ask()
        self.ended(grace)

    def ended(self, grace: float) -> None:
        """Wait for the end of a process that was asked to end, and send SIGKILL after `grace` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Children:
    """Processes that end with their owner.

    Args:
        say: receives each command, once.
        at_once: whether all are asked to end at once, with one deadline. Otherwise each is asked when the one that
            started after it has ended, so that a process outlives those that use it.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None, *, at_once: bool = False) -> None:
        self.all: list[Child] = []
        self._say, self._at_once = say, at_once

    def start(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Child:
        """Start `command`. Secrets belong in files or the environment, never in a command line."""
        self._say(f"{name}: {shlex.join(command)}")
        child = Child(name, command, log, environment)
        self.all.append(child)
        return child

    def check(self) -> None:
        """Check that all processes run.

        Raises:
            ProcessEnded: with the last line of the log of a process that has ended.
        """
        for child in self.all:
            if child.code is not None:
                last = " ".join(child.last_lines(1).split())[-300:]
                raise ProcessEnded(f"{child.name} ended with code {child.code} ({last}); see {child.log}")

    def end(self) -> None:
        """End all processes."""
        if self._at_once:
            for child in self.all:
                child.ask()
            deadline = time.monotonic() + GRACE
            for child in self.all:
                child.ended(max(0.0, deadline - time.monotonic()))
        else:
            for child in reversed(self.all):
                child.end()
        self.all.clear()


@contextlib.contextmanager
def children(say: Callable[[str], None] = lambda _: None, *, at_once: bool = False) -> Iterator[Children]:
    """Yield children that end with the block, also on SIGTERM or SIGHUP, which raise KeyboardInterrupt here.

    Args:
        say: receives each command, once.
        at_once: as of `Children`.
    """
    made = Children(say, at_once=at_once)
    with signals_interrupt():
        try:
            yield made
        finally:
            with _undisturbed():
                made.end()


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, as on Ctrl-C, so that resources are closed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore further signals while the children end. SIGKILL ends them too, by their parent's death."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def free_port() -> int:
    """Return a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
