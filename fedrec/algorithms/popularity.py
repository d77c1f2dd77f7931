"""`popularity`: the floor that personalised methods are compared with. One private release, of unit-norm histories."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import public_kernels
from fedrec.model import ReleasedModel
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class PopularityConfig(Settings):
    """Settings of `popularity`."""

    older_names: ClassVar[Mapping[str, str]] = {"clip": "clip_norm"}

    counts: bool = False
    """True: a user adds 1 for each item, cut to `clip_norm`, as published floors count; else 1 / sqrt(items)."""
    clip_norm: float = Field(default=8.0, gt=0)
    """Norm that a user's counts are cut to under privacy: the root of the items that count in full."""


class PopularityModel(ReleasedModel):
    """The same scores (items,) for everybody."""

    kind = "popularity"
    in_double = True

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        return {"count": users.lengths}

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        if candidates is not None:
            return self.scores[candidates]
        return self.scores.repeat(len(state["count"]), 1)

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        return {"count": state["count"] + 1}

    def with_new_items(self, items: NewItems) -> "PopularityModel":
        """Give every new item the median: it cannot rank them."""
        return PopularityModel(items.at_median(self.scores)).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        return {"scores": self.scores}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "PopularityModel":
        return cls(tensors["scores"])


class Popularity(Algorithm):
    """One round, one query of shape (items,)."""

    name: ClassVar[str] = "popularity"
    Config: ClassVar[type[Settings]] = PopularityConfig
    config: PopularityConfig

    @property
    def rounds(self) -> int:
        return 1

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"popularity"})

    def initial(self) -> Shared:
        return {"popularity": torch.ones(len(self.facts.catalogue), device=self.facts.device)}

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        items = len(self.facts.catalogue)
        if self.config.counts:
            return (SumQuery("popularity", (items,), self.config.clip_norm, 1.0),)
        return (popularity_query(items, 1.0),)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        return {"popularity": popularity_contribution(users, counts=self.config.counts)}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        public = public_kernels(self.facts.catalogue, products=False).to(self.facts.device)
        return {"popularity": denoise(sums["popularity"], public)}

    def release(self, shared: Shared) -> PopularityModel:
        return PopularityModel(shared["popularity"])
