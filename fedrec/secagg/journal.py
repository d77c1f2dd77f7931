"""What a party must remember beyond its process: which rounds it has answered."""

from typing import Protocol


class Journal(Protocol):
    """A memory of claims that survives a restart; the caller decides where it is kept."""

    def claim(self, name: bytes, value: bytes) -> bytes | None:
        """Keep a value under a new name, on disk before this returns, and return None.

        Where the name was claimed before, keep what is there, and return it.
        """
        ...


class MemoryJournal:
    """A journal that ends with the process: for tests and simulations."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def claim(self, name: bytes, value: bytes) -> bytes | None:
        """Keep a value under a new name and return None, or return the one that is there."""
        before = self._kept.get(name)
        self._kept.setdefault(name, value)
        return before
