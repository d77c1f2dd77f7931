"""What baselines have in common under privacy: a first round that releases popularity, and item vectors that begin there.

Noise on a whole table of item vectors drowns the few rounds that a small budget allows, and popularity is what those
rounds would spend themselves on. One number an item costs little, so it is released first (`fedrec.kernels.popularity`)
and put into one column of the table; training then only has to add what is personal. The papers know no such round;
without privacy there is none here either.
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import public_kernels
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery


class PopularityStart(Algorithm):
    """An algorithm whose every round asks for one sum, after a round for popularity if that has a share."""

    popularity_share: float
    """Part of the budget for popularity; 0 for no such round."""
    training_rounds: int
    """Rounds after that one."""

    @abstractmethod
    def query(self, share: float) -> SumQuery:
        """The sum of a round of training."""

    @abstractmethod
    def part(self, shared: Shared, users: UserBatch, round: int) -> Contribution:
        """Each user's part of it; training rounds count from 0."""

    @abstractmethod
    def step(self, shared: Shared, total: Tensor, round: int) -> Shared:
        """The shared state after a round of training; total is the private sum over users."""

    @abstractmethod
    def begin_from(self, shared: Shared, popularity: Tensor) -> Shared:
        """The shared state with `popularity` (items,), all above 0, in the item vectors."""

    @property
    def rounds(self) -> int:
        return self._before + self.training_rounds

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        if round < self._before:
            return (popularity_query(len(self.setting.catalogue), self.popularity_share),)
        return (self.query((1 - self.popularity_share) / self.training_rounds),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        (query,) = self.queries(round)
        if round < self._before:
            return {query.name: popularity_contribution(users)}
        return {query.name: self.part(shared, users, round - self._before)}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        (total,) = sums.values()
        if round < self._before:
            public = public_kernels(self.setting.catalogue, products=False).to(self.setting.device)
            return self.begin_from(shared, denoise(total, public))
        return self.step(shared, total.value, round - self._before)

    @property
    def _before(self) -> int:
        return 1 if self.popularity_share > 0 else 0


def log_popularity(popularity: Tensor) -> Tensor:
    """The logarithm (items,), centred: where negatives are uniform, these are the log-odds of an event up to a constant."""
    logarithm = torch.log(popularity)
    return logarithm - logarithm.mean()
