"""The folder of one running server or node: logs, secrets and Flower's files, readable by its owner alone."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fedrec import private_files
from fedrec.durable import replace
from fedrec.errors import InputError

STOP_SECONDS = 30.0
"""Seconds that `stop` waits. Child processes are killed after half of it."""

CLAIM_SECONDS = 1.0
"""Seconds that `claim` tries."""


class State:
    """The folder `path`, mode 0700. One process at a time holds its lock, until the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def make(self) -> None:
        """Make the folder unless it exists.

        Raises:
            InputError: when the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(f"--state {self.path}: cannot be made ({error.strerror}); choose another folder") from None

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Lock the folder.

        Raises:
            InputError: when another process has the lock, or others can read the folder.
        """
        before = os.umask(0o077)
        try:
            with self._locked():
                yield
        finally:
            os.umask(before)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.make()
        mode = self.path.stat().st_mode & 0o777
        if mode & 0o077:
            raise InputError(f"--state {self.path}: open to others (mode {mode:04o}); `chmod 700 {self.path}`")
        with self._lock() as lock:
            end = time.monotonic() + CLAIM_SECONDS
            while not _taken(lock):
                if time.monotonic() > end:
                    raise InputError(f"--state {self.path}: in use by process {_holder(lock)}; stop it first")
                time.sleep(0.05)  # another process may be checking whether it is in use
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._told.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._told.unlink(missing_ok=True)

    def _lock(self) -> IO[str]:
        try:
            return (self.path / "lock").open("a+")
        except OSError as error:
            raise InputError(f"--state {self.path}: cannot be used ({error.strerror}); whose is it?") from None

    def tell(self, facts: dict[str, Any]) -> None:
        """Write the facts of the running processes, which marks them as ready."""
        replace(self._told, json.dumps(facts | {"pid": os.getpid()}).encode())

    def running(self) -> dict[str, Any] | None:
        """Return the facts from `tell` while its process runs; else None."""
        if self._pid() is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self._told.read_text(encoding="utf-8"))
            return found
        return None

    def stop(self) -> bool:
        """End the process with the lock, and its children.

        Returns:
            False if no process has the lock.

        Raises:
            InputError: when the process does not end in time.
        """
        signalled, end = None, time.monotonic() + STOP_SECONDS
        while (pid := self._pid()) is not None:
            if pid != signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                signalled = pid
            if time.monotonic() > end:
                raise InputError(f"process {pid} did not end within {STOP_SECONDS:.0f} seconds; see {self.path}")
            time.sleep(0.1)
        return signalled is not None

    def _pid(self) -> int | None:
        """Return the id of the process with the lock, ready or not; None without one."""
        with contextlib.suppress(OSError, ValueError), (self.path / "lock").open("r+") as lock:
            return None if _taken(lock) else int(_holder(lock))
        return None

    def secret(self, name: str) -> Path:
        """Return the file of a random secret, made on first use, mode 0600."""
        path = self.path / name
        if not path.exists():
            private_files.create(path, os.urandom(32).hex().encode())
        return path

    def log(self, name: str) -> Path:
        """Return the log of the process `name`."""
        return self.path / f"{name}.log"

    @property
    def _told(self) -> Path:
        return self.path / "running.json"


def _taken(lock: IO[str]) -> bool:
    """Return whether this process got the lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "?"
