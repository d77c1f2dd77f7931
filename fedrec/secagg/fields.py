"""Reading and writing of the fields of a message: fixed sizes, big-endian numbers, one spelling."""

from collections.abc import Sequence
from itertools import pairwise

from fedrec.secagg.outcome import Malformed

MOST = 1 << 24
"""Most entries of a list, and largest place of a member."""


def number(value: int, size: int = 4) -> bytes:
    """Return the bytes of a number from 0 on."""
    return value.to_bytes(size, "big")


def places(members: Sequence[int]) -> bytes:
    """Return the bytes of ascending places in the roster."""
    return number(len(members)) + b"".join(map(number, members))


class Reader:
    """The fields of a message, in order. Every method raises Malformed where the bytes end early."""

    def __init__(self, data: bytes, kind: bytes) -> None:
        self._data, self._at, self._what = data, 0, kind.decode("ascii")
        if self.take(len(kind)) != kind:
            raise Malformed(f"no message '{self._what}'")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise Malformed(f"a message '{self._what}' that ends early")
        self._at += size
        return found

    def number(self, size: int = 4) -> int:
        """Return the next number."""
        return int.from_bytes(self.take(size), "big")

    def member(self) -> int:
        """Return the next place in the roster."""
        found = self.number()
        if found >= MOST:
            raise Malformed(f"a message '{self._what}' with member {found}")
        return found

    def count(self, size: int) -> int:
        """Return the number of the following entries, of `size` bytes each, which must be there."""
        found = self.number()
        if found * size > len(self._data) - self._at:
            raise Malformed(f"a message '{self._what}' that ends early")
        return found

    def places(self) -> tuple[int, ...]:
        """Return ascending places in the roster."""
        return self.ascending(tuple(self.member() for _ in range(self.count(4))))

    def ascending(self, members: tuple[int, ...]) -> tuple[int, ...]:
        """Return the members. Raises: Malformed where they are not in ascending order, each once."""
        if any(one >= other for one, other in pairwise(members)):
            raise Malformed(f"a message '{self._what}' with members out of order")
        return members

    def rest(self) -> bytes:
        """Return the bytes to the end."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Check that no byte is left."""
        if self._at != len(self._data):
            raise Malformed(f"a message '{self._what}' with bytes after its end")
