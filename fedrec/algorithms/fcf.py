"""`fcf`: federated collaborative filtering by item gradients; federated matrix factorisation is a setting of it.

The objective is that of `als`: sum over events (1 - s)^2 + alpha0 * sum over all pairs s^2 + ridges, s = <x_u, y_i>. A
device solves its own vector x_u exactly and sends the gradient of its part with respect to all items' vectors; the
server takes a step down the mean gradient.

Sources: Ammad-ud-din et al. 2019 (FCF: Adam on the server); Chai et al. 2020 (FedMF: `optimizer = "sgd"`). Different
here: the confidence of an event is added to that of a pair without one, as in Rendle et al. 2022, which only scales the
target; the private vector is solved afresh each round, so a device keeps no state (FedMF takes gradient steps on one
that it keeps); pairs without an event count in FedMF too (on events without ratings alone, 1 for everything would be
optimal). The gradient is clipped as one whole, and under privacy the item vectors begin with popularity
(`fedrec.algorithms.popularity_start`).

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("fcf", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.base import Shared
from fedrec.algorithms.held_rows import gathered
from fedrec.algorithms.popularity_start import TRAINING_NAMES, PopularityStart
from fedrec.algorithms.server_optimizer import ServerOptimizer, start_moments
from fedrec.algorithms.stage import Stage
from fedrec.data.users import UserBatch
from fedrec.precision import full_precision
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

_SCORES_AT_ONCE = 1 << 20


class FCFConfig(Settings):
    """Settings of `fcf`. Weights and ridge are those of `als`; the clip was chosen on the same validation split."""

    older_names = TRAINING_NAMES

    dim: int | None = Field(None, ge=1, le=1024)
    """Length of a user's and an item's vector; by default 32, under privacy 8 or, with many users, 16."""
    rounds: int | None = Field(None, ge=1)
    """Gradient steps of the server; by default 40, under privacy 8."""
    popularity_share: float | None = Field(None, ge=0, lt=1)
    """Part of the privacy budget for popularity, which the item vectors begin with; by default none without privacy."""
    alpha0: float = Field(0.3, gt=0)
    """Weight of a pair without an event (an event adds 1)."""
    reg: float = Field(0.003, gt=0)
    """Ridge, times (events + alpha0 x items) for a user, and alpha0 x users for an item."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The server's step down the mean gradient."""
    learning_rate: float | None = Field(None, gt=0)
    """Step size of the server, by default 0.05, under privacy 0.1; `sgd`, whose steps follow the size of the
    gradient, wants about 20."""
    clip_norm: float = Field(4.0, gt=0)
    """L2 clip on a user's whole gradient."""
    init_std: float = Field(0.3, gt=0)
    """Initial item entries are normal with standard deviation init_std / sqrt(dim)."""


class ItemGradient(Contribution):
    """e_u x_u^T of each user, (items, d), held as its factors: e_u = 2 alpha0 Y x_u, less 2 (1 - s) at the events.

    e_u is made as a dense row, some users at a time: its norm without a row, from Y^T Y and the events, is a difference
    of nearly equal numbers, and came out too small.
    """

    def __init__(self, vectors: Tensor, items: Tensor, users: UserBatch, alpha0: float) -> None:
        """vectors (B, d) of the users, items (items, d)."""
        self.vectors, self.items, self.alpha0 = vectors.double(), items.double(), alpha0
        self.users, self._distinct = users, users.distinct
        self._starts = torch.bincount(self._distinct[0], minlength=len(users) + 1).cumsum(0)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.items.shape)

    def errors(self, first: int, stop: int) -> Tensor:
        """e_u of the users at first..stop-1, (stop - first, items) float64."""
        scores = self.vectors[first:stop] @ self.items.T
        owners, events = self._distinct
        some = slice(int(self._starts[first - 1]) if first else 0, int(self._starts[stop - 1]) if stop else 0)
        row, column = owners[some] - first, events[some]
        errors = 2 * self.alpha0 * scores
        errors[row, column] += -2 * (1 - scores[row, column])
        return errors

    @cached_property
    def _sizes(self) -> Tensor:
        """(B, 2) float64: the norm of each e_u, and its largest entry."""
        found = [self.vectors.new_zeros(0, 2)]
        for first, stop in self._parts():
            errors = self.errors(first, stop)
            found.append(torch.stack([errors.norm(dim=1), errors.abs().amax(1)], 1))
        return torch.cat(found)

    def norms(self) -> Tensor:
        return self._sizes[:, 0] * self.vectors.norm(dim=1)

    def unit_weights(self) -> Tensor:
        return self.vectors.new_ones(len(self.vectors))

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        used = weights != 0
        weighted = torch.where(used[:, None], self.vectors * weights[:, None].double(), 0.0)
        left, right = lattice.factor_steps(self._sizes[:, 1], weighted.abs().amax(1))
        vectors = (weighted / right[:, None]).trunc_()
        for first, stop in self._parts():
            errors = (self.errors(first, stop) / left[first:stop, None]).trunc_()
            mine = used[first:stop]
            add_whole(total, errors[mine].T @ vectors[first:stop][mine])

    def dense(self, row: int) -> Tensor:
        return torch.outer(self.errors(row, row + 1)[0], self.vectors[row]).float()

    def _parts(self) -> Iterator[tuple[int, int]]:
        step = max(16, _SCORES_AT_ONCE // len(self.items))
        return ((first, min(first + step, len(self.vectors))) for first in range(0, len(self.vectors), step))


class FCF(PopularityStart):
    """See the module."""

    name: ClassVar[str] = "fcf"
    Config: ClassVar[type[Settings]] = FCFConfig
    config: FCFConfig
    open_rounds = (40, 8)
    open_learning_rate = (0.05, 0.1)

    def initial(self) -> Shared:
        index = torch.arange(len(self.facts.catalogue), device=self.facts.device)
        entries = draws.normal(draws.keys(self.facts.seed, index), 0, self.dim)
        items = entries * (self.config.init_std / math.sqrt(self.dim))
        return {"items": items, "popularity": self.unknown_popularity()} | start_moments(items)

    def begin_from(self, shared: Shared, popularity: Tensor) -> Shared:
        items = shared["items"].clone()
        items[:, 0] = popularity / popularity.max()  # what a user of popular taste alone would have scores like
        return shared | {"items": items}

    def table(self, shared: Shared) -> Tensor:
        return shared["items"]

    def training(self, share: float) -> Stage:
        query = SumQuery("gradient", (len(self.facts.catalogue), self.dim), self.config.clip_norm, share)
        return Stage(self.training_rounds, (query,), self._gradient, self._descend)

    def _gradient(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        with full_precision(users.device):  # linear solves
            vectors = self._solver(shared["items"], shared["items"][:, 0]).vectors(users)
        return {"gradient": ItemGradient(vectors, shared["items"], users, self.config.alpha0)}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        items, total = shared["items"], sums["gradient"]
        ridge = 2 * self.config.reg * self.config.alpha0  # a user's share of the items' ridge
        gradient = total.value / self.facts.expected_cohort + ridge * items
        blocks = (len(items),) if total.noise_std > 0 else ()
        optimizer = ServerOptimizer(self.config.optimizer, self.learning_rate)
        items, moments = optimizer.step(items, gradient, shared, step, blocks)
        return shared | {"items": items, **moments} | gathered(shared, total.value, total.noise_std)

    def release(self, shared: Shared) -> ALSModel:
        return self._solver(self.released_table(shared), shared["popularity"]).by(self.name)

    def _solver(self, items: Tensor, popularity: Tensor) -> ALSModel:
        config = self.config
        return ALSModel(items, items.mT @ items, popularity, alpha0=config.alpha0, reg=config.reg, nu=1.0)
