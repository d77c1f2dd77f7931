"""One person's pairs of head items that follow each other closely, see `fedrec.kernels.cooccurrence`."""

import numpy as np

from fedrec.ondevice.training.base import Part
from fedrec.privacy.fixed_point import Lattice

DECAY, REACH = 0.9, 50  # as in `fedrec.kernels.cooccurrence`


class PairsPart(Part):
    """The unit-norm pair vector over head items, at the first entries of a sum.

    Args:
        items: the person's events, oldest first, (n,) int64. Only the first event of an item counts.
        location: position among the head items, -1 for the tail, (items,) int64.
        head: number of head items.
        skip: newest events that are left out.
    """

    def __init__(self, items: np.ndarray, location: np.ndarray, head: int, skip: int) -> None:
        first = np.sort(np.unique(items, return_index=True)[1])
        place = location[items[first][: max(0, len(first) - skip)]]
        self.place, self.head = place[place >= 0], head
        rates = np.full(REACH, float(np.float32(DECAY)))
        rates[0] = 1.0
        self.powers = np.cumprod(rates)
        found = np.maximum(len(self.place) - np.arange(1, REACH + 1), 0).astype(np.float64)
        self.square = float((found * np.square(self.powers)).sum())

    def norm(self) -> float:
        return 1.0 if len(self.place) > 1 else 0.0

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        for lag in range(1, min(REACH + 1, len(self.place))):
            a, b = self.place[lag:], self.place[:-lag]
            low, high = np.minimum(a, b), np.maximum(a, b)
            value = int(weight / np.sqrt(self.square) * self.powers[lag - 1] / lattice.step)
            np.add.at(total, low * self.head - low * (low + 1) // 2 + high - low - 1, value)
