"""`content`: public features only. Nothing is asked of users, so it costs no budget: the floor of personalisation."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.catalogue import Catalogue, Numbers
from fedrec.data.ids import identities
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.model import KernelModel
from fedrec.kernels.public import number_scores, public_kernels
from fedrec.kernels.space import Decays, centred_space
from fedrec.kernels.synthetic import feature_scales
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

POPULARITY = "popularity"
"""The catalogue's column of public popularity."""


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

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        return ()

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        return {}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        return shared

    def release(self, shared: Shared) -> KernelModel:
        device, catalogue = self.facts.device, self.facts.catalogue
        maps = public_kernels(catalogue).to(device).maps
        if not maps:
            raise InputError("algorithm 'content' needs public item data; this catalogue has no feature block")
        uniform = torch.ones(len(catalogue), device=device)
        space = centred_space(maps, uniform, number_scores(catalogue).to(device), tuple(self.config.decays))
        weights = 1.0 / feature_scales(space, uniform, lengths=(100, 100))
        weights[: space.own] = 0.0
        return KernelModel(space, weights, popularity=public_order(catalogue).to(device)).by(self.name)


def public_order(catalogue: Catalogue) -> Tensor:
    """What a user without a history gets: a score of each item, (items,) float32, from public data alone.

    Items follow the catalogue's column `popularity` where it has one (unknown values come last). Ties, or all items
    where there is no such column, follow a hash of their ids: no item is favoured by its place in the catalogue.
    """
    hashed = draws.keys(0, torch.from_numpy(identities(pl.Series(catalogue.ids, dtype=pl.String)))).numpy()
    known = (block.values for block in catalogue.blocks if isinstance(block, Numbers) and block.name == POPULARITY)
    popularity = np.nan_to_num(next(known, np.zeros(len(catalogue))), nan=-np.inf)
    score = np.empty(len(catalogue), dtype=np.float32)
    score[np.lexsort((hashed, popularity))] = np.arange(len(catalogue))
    return torch.from_numpy(score)
