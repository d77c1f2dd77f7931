"""The ids of a model's items: positions by id and ids by position, from memory or from the index."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from fedrec.ondevice.index_file import hash_of
from fedrec.ondevice.tensor_file import TensorFile

_BLOCK = 512  # hashes that are read at once at the end of a search
_HELD = 1 << 16
"""Items of a catalogue whose ids, hashes and places are held in memory."""
_TEXT = 4 << 20
"""Most bytes of such ids."""


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
    """Ids in the index: a look-up in a large catalogue reads a few hundred bytes."""

    def __init__(self, index: TensorFile) -> None:
        self._index = index
        self._count = index.shape("ids/ends")[0]
        small = self._count <= _HELD and index.shape("ids/text")[0] <= _TEXT
        self._held = (index.read("ids/hash"), index.read("ids/place")) if small else None
        self._texts = (index.read("ids/text").tobytes(), index.read("ids/ends")) if small else None

    def __len__(self) -> int:
        return self._count

    def at(self, position: int) -> str:
        if not 0 <= position < self._count:
            raise IndexError(f"position {position} of {self._count}")
        if self._texts is not None:
            text, stops = self._texts
            return text[stops[position - 1] if position else 0 : stops[position]].decode()
        ends = np.zeros(2, np.int64)
        first = max(position - 1, 0)
        self._index.read_into("ids/ends", first, ends[1 - (position - first) :])
        read = np.empty(int(ends[1] - ends[0]), np.uint8)
        self._index.read_into("ids/text", int(ends[0]), read)
        return read.tobytes().decode()

    def find(self, item: str) -> int | None:
        places = self._of_hash(hash_of(item))
        return next((place for place in places if self.at(place) == item), None)

    def _of_hash(self, wanted: int) -> list[int]:
        """The positions of the ids with a hash."""
        if self._held is not None:
            hashes, places = self._held
            number = np.int64(wanted)
            first, stop = (int(np.searchsorted(hashes, number, side=side)) for side in ("left", "right"))
            found: list[int] = places[first:stop].tolist()
            return found
        low, high, one = 0, self._count, np.empty(1, np.int64)
        while high - low > _BLOCK:
            middle = (low + high) // 2
            self._index.read_into("ids/hash", middle, one)
            low, high = (middle + 1, high) if one[0] < wanted else (low, middle)
        block = np.empty(min(_BLOCK + 1, self._count - low), np.int64)
        self._index.read_into("ids/hash", low, block)
        slots = np.flatnonzero(block == wanted)
        places = np.empty(len(slots), np.int32)
        for slot in range(len(slots)):
            self._index.read_into("ids/place", low + int(slots[slot]), places[slot : slot + 1])
        return places.tolist()
