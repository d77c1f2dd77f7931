"""One person's pairs of head items, or of those that follow closely; see `fedrec.kernels.cooccurrence`."""

from collections.abc import Iterator

import numpy as np

from fedrec.kernels.pair_places import UNITS, places
from fedrec.ondevice.training.base import Part
from fedrec.privacy.fixed_point import Lattice

DECAY, REACH = 0.9, 50  # as in `fedrec.kernels.cooccurrence`


class PairsPart(Part):
    """The unit-norm pair vector over head items, or its sketch, at the first entries of a sum.

    Args:
        items: the person's events, oldest first, (n,) int64. Only the first event of an item counts.
        location: position among the head items, -1 for the tail, (items,) int64.
        head: number of head items.
        skip: newest events that are left out.
        sketch: numbers of a sketch of the pairs (`fedrec.kernels.pair_sketch`); None for none.
        ordered: False if the order of the events is unknown.
    """

    def __init__(
        self,
        items: np.ndarray,
        location: np.ndarray,
        head: int,
        skip: int,
        sketch: int | None = None,
        *,
        ordered: bool = True,
    ) -> None:
        first = np.sort(np.unique(items, return_index=True)[1])
        place = location[items[first][: max(0, len(first) - skip)]]
        self.place, self.head, self.sketch = place[place >= 0], head, sketch
        reach = REACH if ordered else max(1, len(self.place) - 1)
        rates = np.full(reach, float(np.float32(DECAY)) if ordered else 1.0)
        rates[0] = 1.0
        self.powers = np.cumprod(rates)
        found = np.maximum(len(self.place) - np.arange(1, reach + 1), 0).astype(np.float64)
        self.square = float((found * np.square(self.powers)).sum())

    def norm(self) -> float:
        return 1.0 if len(self.place) > 1 else 0.0

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        if self.sketch is not None:
            self._add_sketch(total, weight, lattice, self.sketch)
            return
        for lag, pairs in self._pairs():
            np.add.at(total, pairs, int(weight / np.sqrt(self.square) * self.powers[lag - 1] / lattice.step))

    def _add_sketch(self, total: np.ndarray, weight: float, lattice: Lattice, count: int) -> None:
        sums, units = np.zeros(count, np.int64), np.round(self.powers * UNITS).astype(np.int64)
        for lag, pairs in self._pairs():
            at, sign = places(pairs, count)
            np.add.at(sums, at, sign * units[lag - 1])
        square = int(np.square(sums).sum())
        if square:
            total[:count] += np.trunc(weight / np.sqrt(float(square)) * sums / lattice.step).astype(np.int64)

    def _pairs(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield steps between two events, and the numbers of the pairs that are so far apart."""
        for lag in range(1, min(len(self.powers) + 1, len(self.place))):
            a, b = self.place[lag:], self.place[:-lag]
            low, high = np.minimum(a, b), np.maximum(a, b)
            yield lag, low * self.head - low * (low + 1) // 2 + high - low - 1
