"""`fcf`: federated collaborative filtering by item gradients; federated matrix factorisation is a setting of it.

The objective is that of `als`: sum over events (1 - s)^2 + alpha0 * sum over all pairs s^2 + ridges, s = <x_u, y_i>. A
device solves its own vector x_u exactly and sends the gradient of its part with respect to all items' vectors; the
server takes a step down the mean gradient.

Sources: Ammad-ud-din et al. 2019 (FCF: Adam on the server); Chai et al. 2020 (FedMF: `optimiser = "sgd"`). Different
here: the confidence of an event is added to that of a pair without one, as in Rendle et al. 2022, which only scales the
target; the private vector is solved afresh each round, so a device keeps no state (FedMF takes gradient steps on one
that it keeps); pairs without an event count in FedMF too (on events without ratings alone, 1 for everything would be
optimal). The gradient is clipped as one whole, and under privacy the item vectors begin with popularity
(`fedrec.algorithms.popularity_start`).
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedrec import draws
from fedrec.algorithms import server_adam
from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.base import Shared
from fedrec.algorithms.popularity_start import PopularityStart
from fedrec.data.users import UserBatch
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class FCFConfig(Settings):
    """Settings of `fcf`. Weights and ridge are those of `als`; the clip was chosen on the same validation split."""

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
    optimiser: Literal["adam", "sgd"] = "adam"
    """What the server does with the mean gradient."""
    rate: float | None = Field(None, gt=0)
    """Step size of the server, by default 0.05, under privacy 0.1; `sgd`, whose steps follow the size of the
    gradient, wants about 20."""
    clip: float = Field(4.0, gt=0)
    """L2 clip on a user's whole gradient."""
    init_std: float = Field(0.3, gt=0)
    """Initial item entries are normal with standard deviation init_std / sqrt(dim)."""


class ItemGradient(Contribution):
    """e_u x_u^T of each user, (items, d), held in factored form: e_u = 2 alpha0 Y x_u, less 2 (1 - s) at the events.

    The first part needs sum x x^T alone for a sum over users, and Y^T Y for a norm, so no row of items per user exists.
    """

    def __init__(self, vectors: Tensor, items: Tensor, users: UserBatch, alpha0: float) -> None:
        """vectors (B, d) of the users, items (items, d)."""
        self.vectors, self.items, self.alpha0 = vectors, items, alpha0
        self.owners, self.events = users.distinct
        scores = (vectors[self.owners] * items[self.events]).sum(1)
        self.extra = -2 * (1 - scores)
        common = 2 * alpha0 * scores.double()
        squares = torch.zeros(len(users), dtype=torch.float64, device=vectors.device)
        squares.index_add_(0, self.owners, (common + self.extra).square() - common.square())
        wide = vectors.double()
        gram = items.double().mT @ items.double()
        squares += 4 * alpha0**2 * ((wide @ gram) * wide).sum(1)
        self._norms = squares.clamp(min=0).sqrt() * wide.norm(dim=1)

    def norms(self) -> Tensor:
        return self._norms

    def weighted_sum(self, weights: Tensor) -> Tensor:
        used = weights != 0
        vectors = torch.where(used[:, None], self.vectors, 0.0)
        weighted = torch.where(used[:, None], vectors * weights[:, None].to(vectors.dtype), 0.0)
        total = self.items @ (2 * self.alpha0 * (vectors.mT @ weighted))
        mine = used[self.owners]
        part = self.extra[mine, None] * weighted[self.owners[mine]]
        return total.index_add_(0, self.events[mine], part)

    def dense(self, row: int) -> Tensor:
        error = 2 * self.alpha0 * (self.items @ self.vectors[row])
        mine = self.owners == row
        error = error.index_add(0, self.events[mine], self.extra[mine])
        return torch.outer(error, self.vectors[row])


class FCF(PopularityStart):
    """See the module."""

    name: ClassVar[str] = "fcf"
    Config: ClassVar[type[Settings]] = FCFConfig
    config: FCFConfig
    open_rounds = (40, 8)
    open_rate = (0.05, 0.1)

    def initial(self) -> Shared:
        index = torch.arange(len(self.setting.catalogue), device=self.setting.device)
        entries = draws.normal(draws.keys(self.setting.seed, index), 0, self.dim)
        items = entries * (self.config.init_std / math.sqrt(self.dim))
        return {"items": items, "popularity": self.unknown_popularity()} | server_adam.start(items)

    def begin_from(self, shared: Shared, popularity: Tensor) -> Shared:
        items = shared["items"].clone()
        items[:, 0] = popularity / popularity.max()  # what a user of popular taste alone would have scores like
        return shared | {"items": items}

    def query(self, share: float) -> SumQuery:
        return SumQuery("gradient", (len(self.setting.catalogue), self.dim), self.config.clip, share)

    def part(self, shared: Shared, users: UserBatch, round: int) -> Contribution:
        with full_precision(users.device):  # linear solves
            vectors = self._solver(shared, shared["items"][:, 0]).vectors(users)
        return ItemGradient(vectors, shared["items"], users, self.config.alpha0)

    def step(self, shared: Shared, total: PrivateSum, round: int) -> Shared:
        items = shared["items"]
        ridge = 2 * self.config.reg * self.config.alpha0  # a user's share of the items' ridge
        gradient = total.value / self.setting.expected_cohort + ridge * items
        if self.config.optimiser == "sgd":
            return shared | {"items": items - self.rate * gradient}
        blocks = (len(items),) if total.noise_std > 0 else ()
        items, moments = server_adam.step(items, gradient, shared, round, self.rate, blocks)
        return {"items": items, **moments}

    def release(self, shared: Shared) -> ALSModel:
        return self._solver(shared, shared["popularity"]).by(self.name)

    def _solver(self, shared: Shared, popularity: Tensor) -> ALSModel:
        items, config = shared["items"], self.config
        return ALSModel(items, items.mT @ items, popularity, alpha0=config.alpha0, reg=config.reg, nu=1.0)
