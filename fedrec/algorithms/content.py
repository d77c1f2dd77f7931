"""`content`: public features only. Nothing is asked of users, so it costs no budget: the floor of personalisation."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.model import Decays, KernelModel, centred_space, feature_scales
from fedrec.kernels.public import number_scores, public_kernels
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class ContentConfig(Settings):
    """Settings of `content`."""

    decays: Decays = (1.0, 0.8)
    """Recency weights per step back in a history."""


class Content(Algorithm):
    """Every public kernel with equal weight, averaged over the history under each decay."""

    name: ClassVar[str] = "content"
    Config: ClassVar[type[Settings]] = ContentConfig

    @property
    def rounds(self) -> int:
        return 0

    def initial(self) -> Shared:
        return {}

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        return ()

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        return {}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        return shared

    def release(self, shared: Shared) -> KernelModel:
        device, catalogue = self.setting.device, self.setting.catalogue
        maps = public_kernels(catalogue).to(device).maps
        if not maps:
            raise InputError("algorithm 'content' needs public item data; this catalogue has no feature block")
        uniform = torch.ones(len(catalogue), device=device)
        space = centred_space(maps, uniform, number_scores(catalogue).to(device), tuple(self.config.decays))
        weights = 1.0 / feature_scales(space, uniform)
        weights[: space.own] = 0.0
        return KernelModel(space, weights)
