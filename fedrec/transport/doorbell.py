"""A doorbell between the two processes of a node: the SuperNode rings for each message, and the executor wakes.

Without it the executor would ask the SuperNode twenty times a second, which takes a tenth of a core for each node.
"""

import contextlib
import os
import select
from pathlib import Path

VARIABLE = "FEDREC_DOORBELL"
"""Environment variable with the path."""


class Doorbell:
    """A FIFO in the node's own folder. A ring before the wait counts, and several rings are one.

    Args:
        path: the FIFO; it is made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    @classmethod
    def of_environment(cls) -> "Doorbell | None":
        """Return the doorbell that the environment names; None without one."""
        path = os.environ.get(VARIABLE)
        return cls(Path(path)) if path else None

    def ring(self) -> None:
        """Wake the process that waits, or the next one that does."""
        with contextlib.suppress(BlockingIOError):  # it is full, so it has rung
            os.write(self._handle, b"\0")

    def wait(self, seconds: float) -> None:
        """Return at a ring, or after `seconds`."""
        if select.select([self._handle], [], [], max(0.0, seconds))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._handle, 1 << 16)
