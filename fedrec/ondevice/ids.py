"""The ids of a model's items: positions by id and ids by position, from memory or from the index."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from fedrec.ondevice.index_file import hash_of
from fedrec.ondevice.tensor_file import TensorFile

_BLOCK = 512  # hashes that are read at once at the end of a search


class ItemIds(ABC):
    """Ids of the items in catalogue order."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def at(self, position: int) -> str:
        """The id of the item at a position."""

    @abstractmethod
    def find(self, item: str) -> int | None:
        """The position of an id; None where the model has no such item."""

    def positions(self, items: Iterable[str]) -> np.ndarray:
        """The positions of those `items` that the model has, in the given order, (n,) int64."""
        found = (self.find(item) for item in items)
        return np.array([place for place in found if place is not None], np.int64)


class HeldIds(ItemIds):
    """Ids in memory."""

    def __init__(self, items: Sequence[str]) -> None:
        self._items = list(items)
        self._places = {item: place for place, item in enumerate(self._items)}

    def __len__(self) -> int:
        return len(self._items)

    def at(self, position: int) -> str:
        return self._items[position]

    def find(self, item: str) -> int | None:
        return self._places.get(item)


class StoredIds(ItemIds):
    """Ids in the index: a look-up reads a few hundred bytes, whatever the size of the catalogue."""

    def __init__(self, index: TensorFile) -> None:
        self._index = index
        self._count = index.shape("ids/ends")[0]

    def __len__(self) -> int:
        return self._count

    def at(self, position: int) -> str:
        if not 0 <= position < self._count:
            raise IndexError(f"position {position} of {self._count}")
        ends = np.zeros(2, np.int64)
        first = max(position - 1, 0)
        self._index.read_into("ids/ends", first, ends[1 - (position - first) :])
        text = np.empty(int(ends[1] - ends[0]), np.uint8)
        self._index.read_into("ids/text", int(ends[0]), text)
        return text.tobytes().decode()

    def find(self, item: str) -> int | None:
        wanted = hash_of(item)
        low, high, one = 0, self._count, np.empty(1, np.int64)
        while high - low > _BLOCK:
            middle = (low + high) // 2
            self._index.read_into("ids/hash", middle, one)
            low, high = (middle + 1, high) if one[0] < wanted else (low, middle)
        block = np.empty(min(_BLOCK + 1, self._count - low), np.int64)
        self._index.read_into("ids/hash", low, block)
        for slot in np.flatnonzero(block == wanted).tolist():
            place = np.empty(1, np.int32)
            self._index.read_into("ids/place", low + slot, place)
            if self.at(int(place[0])) == item:
                return int(place[0])
        return None
