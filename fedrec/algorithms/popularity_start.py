"""The baselines' start under privacy: one round that releases popularity, and item vectors that begin there.

Noise on a whole table of item vectors exceeds what a few rounds can learn, and those rounds would learn popularity
first. One number an item costs little, so popularity is released first (`fedrec.kernels.popularity`) and put into one
column of the table. Training then adds what is personal, and the release keeps of it what exceeds the noise
(`fedrec.algorithms.held_rows`): where nothing does, lists are those of the popularity. The less a plan can pay for a
table, the more of its budget popularity gets. The papers have no such round. Without privacy there is none here either:
the first round of training releases the popularity too, for users without a history.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.held_rows import EVIDENCE, HELD, NOISE, held, kept, no_evidence, popularity_budget
from fedrec.algorithms.server_optimizer import MOMENTS
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.privacy.queries import PrivateSum

UNUSED_SHARE = 0.02
"""Part of a private budget for popularity where training does not begin with it."""

TRAINING_NAMES = {"optimiser": "optimizer", "rate": "learning_rate", "clip": "clip_norm"}
"""Older names of settings -> those that all algorithms share."""

MANY = 5000.0  # mu x users from which on a longer item vector gains more than its noise costs


class OpenSettings(Protocol):
    """Settings of a baseline that may be left open."""

    dim: int | None
    rounds: int | None
    learning_rate: float | None
    popularity_share: float | None


class PopularityStart(Staged):
    """A stage of training, after a stage for popularity if that has a share, else alongside it.

    What the configuration leaves open follows from privacy and the number of users. The rules and each algorithm's
    numbers were chosen on the validation splits of MovieLens-100K and MovieLens-1M, without privacy and at epsilon 8.
    """

    config: OpenSettings
    open_dim: ClassVar[int] = 32
    """Length of an item's vector without privacy."""
    open_rounds: ClassVar[tuple[int, int]]
    """Rounds of training without privacy, and with it."""
    open_learning_rate: ClassVar[tuple[float, float]]
    """The server's step size without privacy, and with it."""
    open_popularity_share: ClassVar[float] = 0.2
    """Least part of a private budget for popularity."""

    def __init__(self, config: Any, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        private = facts.private
        few = private and facts.strength < MANY
        self.dim = config.dim or (8 if few else 16 if private else self.open_dim)
        self.training_rounds = config.rounds or self.open_rounds[private]
        self.learning_rate = config.learning_rate or self.open_learning_rate[private]
        self.popularity_share = self._open_share() if config.popularity_share is None else config.popularity_share

    def _open_share(self) -> float:
        if not self.facts.private:
            return 0.0
        size = len(self.facts.catalogue) * self.dim
        return popularity_budget(self.facts, self.open_popularity_share, size, self.training_rounds)

    @property
    def chosen(self) -> dict[str, Any]:
        names = ("dim", "learning_rate", "popularity_share")
        return {name: getattr(self, name) for name in names} | {"rounds": self.training_rounds}

    @abstractmethod
    def training(self, share: float) -> Stage:
        """Return the stage that trains; `share` is the part of the budget of each of its rounds."""

    @abstractmethod
    def begin_from(self, shared: Shared, popularity: Tensor) -> Shared:
        """Return the shared state with `popularity` (items,), all above 0, in the first column of the item vectors."""

    @abstractmethod
    def table(self, shared: Shared) -> Tensor:
        """Return the item vectors (items, w) in a shared state."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        first = self.popularity_share > 0
        share = self.popularity_share or UNUSED_SHARE

        def begin(shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
            begun = self.begin_from(shared, popularity) if first else shared
            holds = no_evidence(self.table(begun)) if first and self.facts.private else {}
            return begun | holds | {"popularity": popularity}

        popularity = popularity_stage(self.facts, share, begin, alongside=not first)
        return (popularity, self.training((1 - share) / self.training_rounds))

    def released_table(self, shared: Shared) -> Tensor:
        """Return the item vectors (items, w) for the release: the popularity, and what of the rest exceeds the noise.

        The first column stays as it began: what training adds there is the same for all users.
        """
        table = self.table(shared)
        if EVIDENCE not in shared:
            return table
        popularity = shared["popularity"]
        start = self.table(self.begin_from(self.initial(), popularity)).clone()
        target = torch.zeros_like(start)
        target[:, 0] = start[:, 0]
        start[:, 0] = table[:, 0]
        learned = PrivateSum(shared[EVIDENCE][:, 1:], float(shared[NOISE]) ** 0.5)
        return held(table, start, kept(learned, popularity), target)

    def unknown_popularity(self) -> Tensor:
        """Return (items,) ones: the popularity in the shared state before its release."""
        return torch.ones(len(self.facts.catalogue), device=self.facts.device)

    @property
    def server_only(self) -> frozenset[str]:
        return MOMENTS | HELD | {"popularity"}


def standard_log(popularity: Tensor) -> Tensor:
    """Return the logarithm (items,) at mean 0 and variance 1.

    A device fits a weight of its own to it. Its steps are made for entries of that size; on a spread of 2 they diverge.
    """
    logarithm = torch.log(popularity)
    return (logarithm - logarithm.mean()) / logarithm.std(correction=0).clamp(min=1e-6)
