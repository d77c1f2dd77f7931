"""The device's side of `als`: the person's vector, and its outer products as exact integers.

The vector is solved in float64 and rounded to float32, where the torch form solves in float32. For equal vectors both
forms make equal integers; see `fedrec.algorithms.als` and `fedrec.algorithms.als_statistics` for the computation.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.factors import ridge_solve
from fedrec.ondevice.history import History
from fedrec.ondevice.training.base import DeviceQuery, Part, RunFacts, Shared, Training
from fedrec.ondevice.training.popularity import UNIT, popularity_part
from fedrec.privacy.fixed_point import Lattice

NOISY = (16, 2)
"""Length of vectors and number of rounds that a run with privacy takes where its settings leave them open."""
NOISELESS = (64, 10)


class GramPart(Part):
    """w w^T, packed as its upper triangle. vector: (d,) float32."""

    def __init__(self, vector: np.ndarray) -> None:
        self.vector = vector.astype(np.float64)

    def norm(self) -> float:
        return float(np.square(self.vector).sum())

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        factors = np.trunc(self.vector * math.sqrt(weight) / lattice.root).astype(np.int64)
        row, column = np.triu_indices(len(factors))
        total += factors[row] * factors[column]


class ItemsPart(Part):
    """(w w^T packed, w, 1) at each item of the history, as often as it occurs.

    Args:
        vector: (d,) float32.
        items: (n,) int64.
    """

    def __init__(self, vector: np.ndarray, items: np.ndarray) -> None:
        self.vector = vector.astype(np.float64)
        self.items, self.counts = np.unique(items, return_counts=True)

    def norm(self) -> float:
        squares, length = float(np.square(self.counts.astype(np.float64)).sum()), float(np.square(self.vector).sum())
        return math.sqrt(squares * (length**2 + length + 1)) if squares > 0 else 0.0

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        extended = np.append(self.vector, 1.0) * math.sqrt(weight)
        factors = np.trunc(extended / lattice.root).astype(np.int64)
        vector, one = factors[:-1], factors[-1]
        row, column = np.triu_indices(len(vector))
        each = np.concatenate([vector[row] * vector[column], vector * one, [one * one]])
        total[self.items] += self.counts[:, None] * each


class ALSTraining(Training):
    """Two sums a round: the Gram matrix of the users' vectors, and the items' statistics; before, the popularity."""

    algorithm: ClassVar[str] = "als"

    def __init__(self, settings: Mapping[str, Any], facts: RunFacts) -> None:
        super().__init__(settings, facts)
        dim, rounds = NOISY if facts.private else NOISELESS
        self.dim, self._rounds = int(settings["dim"] or dim), int(settings["rounds"] or rounds)
        share = settings.get("popularity_share", 0.0)
        self.first = int(facts.private if share == "by budget" else float(share) > 0)
        """1 where the first round asks for popularity."""

    @property
    def rounds(self) -> int:
        return self.first + self._rounds

    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        if round_index < self.first:
            return (DeviceQuery("popularity", (self.items,), UNIT),)
        packed, settings = self.dim * (self.dim + 1) // 2, self.settings
        shape = (self.items, packed + self.dim + 1)
        return (
            DeviceQuery("gram", (packed,), float(settings["gram_clip_norm"]), self.dim),
            DeviceQuery("items", shape, float(settings["items_clip_norm"]), self.dim),
        )

    def parts(self, shared: Shared, history: History, round_index: int) -> dict[str, Part]:
        if round_index < self.first:
            return {"popularity": popularity_part(history)}
        vector = self.vector(shared, history)
        return {"gram": GramPart(vector), "items": ItemsPart(vector, history.items)}

    def vector(self, shared: Shared, history: History) -> np.ndarray:
        """Return the person's vector, (d,) float32; zeros without events, NaN where no solution exists."""
        items, gram = shared["items"], shared["gram"]
        if items.shape != (self.items, self.dim) or gram.shape != (self.dim, self.dim):
            raise ValueError(
                f"item vectors {items.shape}, Gram matrix {gram.shape}; the run has {self.dim} numbers each"
            )
        if not len(history):
            return np.zeros(self.dim, np.float32)
        rows = items[history.items].astype(np.float64)
        alpha0, reg, nu = (float(self.settings[name]) for name in ("alpha0", "reg", "nu"))
        ridge = reg * (len(history) + alpha0 * self.items) ** nu
        try:
            found = ridge_solve(rows.T @ rows + alpha0 * gram.astype(np.float64), ridge, rows.sum(0))
        except np.linalg.LinAlgError:
            return np.full(self.dim, np.nan, np.float32)
        return found.astype(np.float32)
