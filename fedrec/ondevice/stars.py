"""Device form of the models of ratings: expected stars of items, and the ridge that fits the user's own taste.

It computes in float64 from the released float32 numbers what `fedrec.algorithms.rating_model` computes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.exact import products
from fedrec.ondevice.factors import FactorModel, ridge_solve
from fedrec.ondevice.history import History, State
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.source import Source


class StarsForm(FactorModel):
    """score = <vector, item> + bias in stars; the vector is the ridge regression of the user's own ratings."""

    kind: ClassVar[str] = "stars"
    bias: np.ndarray
    tables = {"items": False}

    def __init__(self, table: ItemTable, bias: np.ndarray, settings: Mapping[str, Any]) -> None:
        self.table, self.bias, self.n_items = table, bias, table.items
        self.ridge, self.decay = float(settings["ridge"]), float(np.float32(settings["decay"]))
        self.low, self.high = float(settings["low"]), float(settings["high"])

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "StarsForm":
        return cls(source.table("items"), source.read("bias"), settings)

    def check(self, history: History) -> None:
        if len(history) and history.ratings is None:
            raise InputError("this model needs ratings, and the history has none; give each event its rating")

    def start(self, history: History) -> dict[str, np.ndarray]:
        dim, decay = self.table.dim, self.decay if history.ordered else 1.0
        return {"outer": np.zeros((dim, dim)), "total": np.zeros(dim), "decay": np.array([decay])}

    def add(self, sums: dict[str, np.ndarray], item: int, rating: float | None) -> None:
        if rating is None or np.isnan(rating):
            return
        row = self.table.rows(np.array([item]))[0].astype(np.float64)
        label = min(max(rating, self.low), self.high) - float(self.bias[item])
        for name, more in (("outer", row[:, None] * row), ("total", row * label)):
            sums[name] *= sums["decay"][0]
            sums[name] += more

    def solve(self, sums: Mapping[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
        return {"vector": ridge_solve(sums["outer"].copy(), self.ridge, sums["total"])}

    def _pulls(self, state: State, way: np.ndarray) -> np.ndarray:
        items, ratings = state.history.items, state.history.ratings
        assert ratings is not None
        known = ~np.isnan(ratings)
        after = known[::-1].cumsum()[::-1] - known  # rated events that are newer
        labels = ratings.astype(np.float64).clip(self.low, self.high) - self.bias[items].astype(np.float64)
        met = products(self.table.rows(items), ridge_solve(state.sums["outer"].copy(), self.ridge, way))
        return np.where(known, state.sums["decay"][0] ** after * labels * met, 0.0)

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self.table.products(self.vector(state), items) + self.bias[items]

    def predict(self, state: State, items: np.ndarray) -> np.ndarray:
        """Expected ratings of `items` (n,), within the public scale: (n,) float64."""
        return self.exact(state, np.asarray(items, np.int64)).clip(self.low, self.high)
