"""The private input of a model on a device, and the private state that a model makes of it."""

from dataclasses import dataclass, field, replace

import numpy as np

from fedrec.ondevice import draws

FIRST_KEY = int(draws.keys(0, np.zeros(1, np.int64))[0])
"""The key of a single person, as in `fedrec.Model.recommend(history=...)`."""


@dataclass(frozen=True)
class History:
    """One person's events, oldest first. It stays on the device.

    Attributes:
        items: (n,) int64, positions in the catalogue.
        ratings: (n,) float32, NaN where unknown; or None.
        ordered: False if the order of the events is unknown.
        key: uint64, seed of the person's local draws.
        disliked: (m,) int64, items that are never listed, and that a model may learn from as negatives.
    """

    items: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ratings: np.ndarray | None = None
    ordered: bool = True
    key: int = FIRST_KEY
    disliked: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.items)

    def plus(self, item: int, rating: float | None = None) -> "History":
        """Return this history with one more event, the newest."""
        ratings = self.ratings
        if ratings is None and rating is not None:
            ratings = np.full(len(self.items), np.nan, np.float32)
        if ratings is not None:
            ratings = np.append(ratings, np.float32(np.nan if rating is None else rating))
        return replace(self, items=np.append(self.items, np.int64(item)), ratings=ratings)

    def without(self, item: int) -> "History":
        """Return this history without every event of `item`."""
        kept = self.items != item
        return replace(self, items=self.items[kept], ratings=None if self.ratings is None else self.ratings[kept])


@dataclass(frozen=True)
class State:
    """The private state of one person under one model. Its arrays are never changed after it is made.

    Attributes:
        history: the events that it was made of.
        sums: what the model keeps of them, by name.
    """

    history: History
    sums: dict[str, np.ndarray]
