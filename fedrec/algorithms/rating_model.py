"""What algorithms of ratings release: expected stars of items, and the ridge that fits a user's own taste.

A user's rating of item i is  b_i + <w, v_i> + noise.  `b_i` is released. The first entry of every `v_i` is a constant,
so the first entry of w is the user's own bias. The others are slopes over public features, over the item's popularity
and bias, and over a trained tower. w is normal around zero, so its posterior mean is the ridge regression of
rating - b_i on the user's own ratings (Koren, Bell, Volinsky 2009 for biases; Bishop 2006, 3.3, for the ridge). It is
computed on the device and costs no budget. The sums over events are all that it needs, so a rated event is folded in
exactly without the history. Ratings outside the public scale are set to its nearest end, and predictions are too.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import embedding

from fedrec.algorithms.als import padded, ridge_solve
from fedrec.algorithms.ragged import each_rectangle
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.model import ReleasedModel
from fedrec.rowwise import bmm
from fedrec.settings import Settings


class RatingSolver(Settings):
    """Settings of the solve of a user's taste."""

    ridge: float = Field(gt=0)
    """Variance of a rating around its expectation."""
    decay: float = Field(gt=0, le=1)
    """Weight of an event: decay ** (rated events after it)."""
    low: float
    """Lowest rating of the public scale."""
    high: float
    """Highest rating of the public scale."""

    @model_validator(mode="after")
    def _ascends(self) -> "RatingSolver":
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self


class StarsModel(ReleasedModel):
    """items (I, d), bias (I,): expected stars; score = <vector, item> + bias, in stars and not clipped."""

    kind: ClassVar[str] = "stars"
    in_double = True

    def __init__(self, items: Tensor, bias: Tensor, solver: RatingSolver) -> None:
        self.items, self.bias, self.solver = items, bias, solver
        self._table, self._bias = padded(items), padded(bias)

    def vectors(self, users: UserBatch) -> Tensor:
        """The users' vectors (B, d) in memory that does not grow with B x d x d."""
        vectors = self.items.new_zeros(len(users), self.items.shape[1])

        def solve(group: Tensor, outer: Tensor, total: Tensor) -> None:
            vectors[group] = self._vectors(outer, total)

        self._each(users, solve)
        return vectors

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """vector (B, d), and what folding in needs: outer (B, d, d), total (B, d), decay (B,).

        Raises:
            InputError: for histories without ratings.
        """
        size, dim = len(users), self.items.shape[1]
        state = {
            "outer": self.items.new_zeros(size, dim, dim),
            "total": self.items.new_zeros(size, dim),
            "decay": users.recency(self.solver.decay).to(self.items.dtype),
            "vector": self.items.new_zeros(size, dim),
        }

        def solve(group: Tensor, outer: Tensor, total: Tensor) -> None:
            state["outer"][group], state["total"][group] = outer, total
            state["vector"][group] = self._vectors(outer, total)

        self._each(users, solve)
        return state

    def fold_in(self, state: dict[str, Tensor], items: Tensor, ratings: Tensor | None = None) -> dict[str, Tensor]:
        """Return the states after one more event each.

        Args:
            state: of `fit` or `fold_in`.
            items: (B,) int64. ratings: (B,) stars.

        Raises:
            InputError: without ratings.
        """
        if ratings is None:
            raise InputError("fold-in: this model needs the new event's rating; fit it on the longer history")
        row, decay = self.items[items], state["decay"]
        label = ratings.to(row.dtype).clamp(self.solver.low, self.solver.high) - self.bias[items]
        outer = state["outer"] * decay[:, None, None] + row[:, :, None] * row[:, None, :]
        total = state["total"] * decay[:, None] + row * label[:, None]
        return {"outer": outer, "total": total, "decay": decay, "vector": self._vectors(outer, total)}

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        vector = state["vector"]
        if candidates is None:
            return torch.addmm(self.bias, vector, self.items.mT)
        return torch.bmm(self.items[candidates], vector[:, :, None])[:, :, 0] + self.bias[candidates]

    def predict(self, state: dict[str, Tensor], candidates: Tensor) -> Tensor:
        """Expected ratings (B, C) of candidates (B, C) int64, within the public scale."""
        return self.score(state, candidates).clamp(self.solver.low, self.solver.high)

    def item_rows(self, items: Tensor) -> Tensor:
        return self.items[items]

    def tensors(self) -> dict[str, Tensor]:
        return {"items": self.items, "bias": self.bias}

    def manifest(self) -> dict[str, Any]:
        return self.solver.model_dump()

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "StarsModel":
        return cls(tensors["items"], tensors["bias"], RatingSolver(**manifest))

    def _each(self, users: UserBatch, work: Any) -> None:
        """Call work(group, outer (G, d, d), total (G, d)) for groups of users with rated events."""
        users = rated(users)
        assert users.ratings is not None
        weights = padded(users.recency(self.solver.decay).to(self.items.dtype)[users.owners] ** users.lags)
        events = torch.cat([users.items, users.items.new_full((1,), len(self.items))])
        stars = padded(users.ratings.to(self.items.dtype).clamp(self.solver.low, self.solver.high))

        def gather(group: Tensor, index: Tensor) -> None:
            item, weight = events[index], weights[index]
            row = embedding(item, self._table)  # (G, L, d)
            weighted = row * weight[:, :, None]
            work(group, bmm(weighted.mT, row), (weighted * (stars[index] - self._bias[item])[:, :, None]).sum(1))

        each_rectangle(gather, torch.arange(len(users.items), device=users.device), users.lengths, pad=len(users.items))

    def _vectors(self, outer: Tensor, total: Tensor) -> Tensor:
        empty = outer.new_zeros(outer.shape[1:])
        return ridge_solve(outer, empty, outer.new_full((len(outer),), self.solver.ridge), total)


def rated(users: UserBatch) -> UserBatch:
    """Return the same users with only the events that have a rating.

    Raises:
        InputError: for a log without ratings.
    """
    if users.ratings is None:
        raise InputError("this model needs ratings, and the log has none; use one with ratings, or ratings = false")
    return users.rated()
