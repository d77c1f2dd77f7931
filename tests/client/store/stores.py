"""A store for a test, its files as bytes, and a child process that ends by SIGKILL."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from fedrec_client.store import Event, KeyFile, Store


def opened(folder: Path, name: str = "me") -> Store:
    return Store.open(folder / f"{name}.store", KeyFile(folder / f"{name}.key"))


def items(store: Store) -> list[str]:
    return [each.event.item for each in store.events()]


def filled(folder: Path, count: int, name: str = "me") -> Store:
    store = opened(folder, name)
    store.append_many(Event(f"item-{n}", "like", 1.6e9 + n, 1 + n / 7) for n in range(count))
    return store


def contents(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """Start a process that does `work` with the writing end of a pipe; return its id and the reading end."""
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        try:
            os.close(reading)
            work(writing)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    return number, reading


def ended(number: int) -> int:
    """Wait for a child; return the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
