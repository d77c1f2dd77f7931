"""The private input of a model on a device, and the private state that a model makes of it."""

from collections.abc import Mapping
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
        times: (n,) float64 seconds since 1970, NaN where unknown; or None where all are.
        attributes: private attributes of the person by name, as text.
    """

    items: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ratings: np.ndarray | None = None
    ordered: bool = True
    key: int = FIRST_KEY
    disliked: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    times: np.ndarray | None = None
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def plus(self, item: int, rating: float | None = None, time: float | None = None) -> "History":
        """Return this history with one more event, the newest."""
        return replace(
            self,
            items=np.append(self.items, np.int64(item)),
            ratings=_plus(self.ratings, len(self), rating, np.float32),
            times=_plus(self.times, len(self), time, np.float64),
        )

    def without(self, item: int) -> "History":
        """Return this history without every event of `item`."""
        kept = self.items != item
        ratings = None if self.ratings is None else self.ratings[kept]
        times = None if self.times is None else self.times[kept]
        return replace(self, items=self.items[kept], ratings=ratings, times=times)


def _plus(values: np.ndarray | None, events: int, value: float | None, kind: type) -> np.ndarray | None:
    """Add the value of one more event; unknown ones are NaN, and None where all are."""
    if values is None and value is None:
        return None
    known = np.full(events, np.nan, kind) if values is None else values
    return np.append(known, kind(np.nan if value is None else value))


@dataclass(frozen=True)
class State:
    """The private state of one person under one model. Its arrays are never changed after it is made.

    Attributes:
        history: the events that it was made of.
        sums: what the model keeps of them, by name.
    """

    history: History
    sums: dict[str, np.ndarray]
