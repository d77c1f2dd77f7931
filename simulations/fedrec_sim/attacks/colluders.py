"""Colluding users: crafted histories, messages of full clip norm in place of honest ones, and a cap on rows.

A colluder with honest code has a history of the attacker's choice: the clip holds for it as for everybody. A colluder
with code of its own sends any numbers whose norm is at most the clip; the clip is all that bounds one user in a sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Shared
from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.privacy.row_cap import CappedRows
from fedrec_sim.attacks.crowd import joined
from fedrec_sim.attacks.recorder import Recorder

FILLERS = 9
"""Items of a crafted history besides the target."""
POPULAR = 30
"""Fillers of the bandwagon come from so many of the most popular items."""

Message = Callable[[Shared, int, SumQuery], Tensor]
"""The numbers that every colluder sends, of any norm: of the public state, the round, and the query."""


def popular_items(users: Histories, count: int) -> np.ndarray:
    """Return the `count` items with the most events, most popular first."""
    return np.argsort(-np.bincount(users.items, minlength=users.n_items), kind="stable")[:count]


def with_crafted_users(users: Histories, count: int, target: int, fillers: np.ndarray, seed: int) -> Histories:
    """Return `users` and `count` more: each has up to nine of `fillers`, drawn evenly, and then the target.

    Ratings are the highest in the data; events come after all others, a second apart.
    """
    draw = np.random.default_rng([seed, 6])
    fillers = fillers[fillers != target]
    rows = [np.append(draw.permutation(fillers)[:FILLERS], target) for _ in range(count)]
    items = np.concatenate(rows).astype(users.items.dtype) if rows else users.items[:0]
    length = len(rows[0]) if rows else 0
    return joined(users, count, items, length)


class Replaced(Contribution):
    """`inner` with the parts of `rows` replaced by one message, the same for all of them."""

    def __init__(self, inner: Contribution, rows: Tensor, message: Tensor, query: SumQuery) -> None:
        self.inner, self.rows, self.query, self.packed = inner, rows, query, query.packed
        self.message = message.double()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.query.shape

    def norms(self) -> Tensor:
        norms = self.inner.norms().clone()
        norms[self.rows] = float(self.message.norm())
        return norms

    def unit_weights(self) -> Tensor:
        return self.inner.unit_weights()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        others = weights.clone()
        others[self.rows] = 0.0
        self.inner.add_to(total, others, lattice)
        for weight in weights[self.rows].tolist():
            total += self.query.encode(self.message * weight, lattice)

    def dense(self, row: int) -> Tensor:
        return self.message.float() if bool((self.rows == row).any()) else self.inner.dense(row)


@dataclass
class Poison:
    """What the colluders do. positions: theirs; message: what they send, None for honest code; loudness: clips of it.

    row_cap: part of the clip that a row of a user's part may have; None without a cap. checked: whether the server
    enforces the cap on messages too, which it can where it sees each user's message alone.
    """

    positions: np.ndarray
    message: Message | None = None
    loudness: float = 1.0
    row_cap: float | None = None
    checked: bool = True


class Poisoned(Recorder):
    """An algorithm among whose users are colluders; run by the real coordinator, federation and plan."""

    poison: Poison

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        given = self.inner.contribute(shared, users, round_index)
        places = self.positions(users)
        rows = torch.from_numpy(np.flatnonzero(np.isin(places, self.poison.positions)))
        for query in self.queries(round_index):
            capped = self.poison.row_cap is not None and query.shape[0] == users.n_items
            if capped and not self.poison.checked:
                given[query.name] = self._capped(query, given[query.name], users)
            if self.poison.message is not None and len(rows):
                sent = self.poison.message(shared, round_index, query).double()
                length = float(sent.norm())
                scaled = sent * (self.poison.loudness * query.clip_norm / length) if length > 0 else sent
                given[query.name] = Replaced(given[query.name], rows, scaled, query)
            if capped and self.poison.checked:
                given[query.name] = self._capped(query, given[query.name], users)
        return given

    def _capped(self, query: SumQuery, contribution: Contribution, users: UserBatch) -> Contribution:
        assert self.poison.row_cap is not None
        return CappedRows(contribution, self.poison.row_cap * query.clip_norm, len(users), query)

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        return self.inner.update(shared, sums, round_index)
