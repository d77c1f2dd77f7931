"""Synthetic users in any number, to measure cost: a hash generates each history on demand, and none is stored.

Popularity follows a power law, each user has one of several tastes, a taste is a ranking of items, and no user has an
item twice. Memory holds the rankings alone, (tastes, items). Quality on these data is no evidence for real ones.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.log import Log
from fedrec.data.users import UserBatch
from fedrec.errors import InputError

_TASTES = 32
_FLATNESS = 0.2  # rank = (1 + u (n^.2 - 1))^5: popularity falls with rank^-.8
_BLOCK = 8192  # users at a time: temporary tensors of a batch stay in the processor's cache


@dataclass(frozen=True)
class SyntheticUsers:
    """A population of `users` with `interactions_per_user` events over `n_items` items, generated on the fly."""

    users: int
    n_items: int
    interactions_per_user: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.interactions_per_user <= self.n_items:
            raise InputError(
                f"synthetic data: {self.interactions_per_user} different items a user out of {self.n_items} cannot be; "
                "lower data.interactions_per_user or raise data.items"
            )

    def __len__(self) -> int:
        return self.users

    @cached_property
    def rankings(self) -> Tensor:
        """Items from most to least liked for each taste, (tastes, items) int32: popularity, shuffled per taste."""
        popularity = -torch.log(torch.arange(1, self.n_items + 1, dtype=torch.float64))
        liking = 1.5 * draws.normal(draws.keys(self.seed, torch.arange(_TASTES)), 1, self.n_items)
        ranked = (popularity + liking).argsort(dim=1, descending=True)
        # Positions of the catalogue carry no meaning, so popular items must not be first in it.
        names = draws.uniform(draws.keys(self.seed, torch.tensor([_TASTES])), 2, self.n_items)[0].argsort()
        return names[ranked].int()

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        """Return the users at positions `users`, the same in any batch; `seed` seeds their local randomness.

        They are drawn on `device`. Another device rounds differently, so a few events differ there.
        """
        index = torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64)).to(device)
        items = torch.empty((len(index), self.interactions_per_user), dtype=torch.int64, device=device)
        for start in range(0, len(index), _BLOCK):
            items[start : start + _BLOCK] = self._items(index[start : start + _BLOCK])
        return UserBatch(
            items=items.flatten(),
            lengths=torch.full((len(index),), self.interactions_per_user, device=device),
            n_items=self.n_items,
            keys=draws.keys(seed, index),
        )

    def keys(self, users: np.ndarray, seed: int) -> Tensor:
        """Return the keys of the users at positions `users`, as in their batch, (B,) int64."""
        return draws.keys(seed, torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64)))

    def _items(self, index: Tensor) -> Tensor:
        """(B, interactions_per_user) distinct items, in random order."""
        count, last = self.interactions_per_user, self.n_items - self.interactions_per_user
        keys = draws.keys(self.seed ^ 0x53594E, index)
        taste = draws.integers(keys, 0, torch.full_like(index, _TASTES), 1)
        u, order = draws.uniform(keys, 1, count).float().sort(dim=1)
        wanted = ((1 + u * (self.n_items**_FLATNESS - 1)) ** (1 / _FLATNESS) - 1).long()  # (B, count), rising
        # To make sorted ranks distinct, push each past the one before it.
        step = torch.arange(count, device=index.device)
        ranks = (wanted - step).cummax(dim=1).values.clamp(max=last) + step
        items = self.rankings.to(index.device).flatten()[taste * self.n_items + ranks].long()
        return torch.empty_like(items).scatter_(1, order, items)


def generate(seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    """Generate the same users as a log in memory, to run a scenario on them."""
    source = SyntheticUsers(users, items, interactions_per_user, seed)
    drawn = source.batch(np.arange(users), seed).items.numpy()
    places = np.tile(np.arange(interactions_per_user), users)
    events = pl.DataFrame({"user": np.repeat(np.arange(users), interactions_per_user), "item": drawn, "place": places})
    return Log("synthetic", events, pl.DataFrame({"item": np.arange(items)}), whole_catalogue=True)
