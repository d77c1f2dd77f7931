"""`popularity`: the floor that personalised methods are compared with. One private release of unit-norm histories."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, ReleasedModel, Shared
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import public_kernels
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class PopularityConfig(Settings):
    """Settings of `popularity`: none."""


class PopularityModel(ReleasedModel):
    """The same scores (items,) for everybody."""

    kind = "popularity"

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

    def tensors(self) -> dict[str, Tensor]:
        return {"scores": self.scores}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "PopularityModel":
        return cls(tensors["scores"])


class Popularity(Algorithm):
    """One round, one query of shape (items,)."""

    name: ClassVar[str] = "popularity"
    Config: ClassVar[type[Settings]] = PopularityConfig

    @property
    def rounds(self) -> int:
        return 1

    def initial(self) -> Shared:
        return {"popularity": torch.ones(len(self.setting.catalogue), device=self.setting.device)}

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        return (popularity_query(len(self.setting.catalogue), 1.0),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        return {"popularity": popularity_contribution(users)}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        public = public_kernels(self.setting.catalogue, products=False).to(self.setting.device)
        return {"popularity": denoise(sums["popularity"], public)}

    def release(self, shared: Shared) -> PopularityModel:
        return PopularityModel(shared["popularity"])
