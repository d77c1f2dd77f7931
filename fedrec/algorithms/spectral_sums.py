"""What a user adds to the sums of `spectral`: x x^T, packed, or x (x^T V), of a unit-norm history x and a basis V.

Both are held as their factors, never as a matrix for each user.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution


class WeightedHistories:
    """Unit-norm histories of B users: the event of user `owners[n]` with item `items[n]` weighs `values[n]`."""

    def __init__(self, users: UserBatch, weight: Tensor) -> None:
        self.owners, self.items = users.distinct
        raw = weight[self.items]
        squares = torch.zeros(len(users), device=raw.device).index_add_(0, self.owners, raw**2)
        self.values = raw * squares.rsqrt()[self.owners]
        self.users, self.n_items = len(users), users.n_items

    def squares(self) -> Tensor:
        """Squared norms (B,) float64: 1, or 0 for an empty history."""
        zero = torch.zeros(self.users, dtype=torch.float64, device=self.values.device)
        return zero.index_add_(0, self.owners, self.values.double() ** 2)

    def rows(self, some: Tensor) -> Tensor:
        """The users at positions `some` (n,) as dense rows (n, items)."""
        place = torch.full((self.users,), -1, device=some.device)
        place[some] = torch.arange(len(some), device=some.device)
        mine = place[self.owners] >= 0
        rows = self.values.new_zeros(len(some), self.n_items)
        rows[place[self.owners[mine]], self.items[mine]] = self.values[mine]
        return rows


def pack(matrix: Tensor) -> Tensor:
    """The upper triangle (n (n + 1) / 2,) of a symmetric matrix, off the diagonal times sqrt(2): norms stay equal."""
    scaled = matrix * math.sqrt(2)
    scaled.diagonal().copy_(matrix.diagonal())
    return scaled[torch.ones_like(matrix, dtype=torch.bool).triu_()]


def unpack(packed: Tensor, items: int) -> Tensor:
    """The inverse of `pack`."""
    matrix = packed.new_zeros(items, items)
    matrix[torch.ones_like(matrix, dtype=torch.bool).triu_()] = packed / math.sqrt(2)
    matrix = matrix + matrix.T
    matrix.diagonal().mul_(math.sqrt(0.5))
    return matrix


class HistoryGram(Contribution):
    """x x^T of each user, packed. At most `AT_ONCE` users are dense rows at a time, and no user is a matrix."""

    AT_ONCE = 1024

    def __init__(self, histories: WeightedHistories) -> None:
        self.histories = histories
        self.packed = histories.n_items

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.packed * (self.packed + 1) // 2,)

    def norms(self) -> Tensor:
        return self.histories.squares()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        items = self.packed
        for some in weights.nonzero()[:, 0].split(self.AT_ONCE):
            rows = lattice.halves(self.histories.rows(some).double() * weights[some, None].double().sqrt())
            done = 0
            for first in range(0, items, self.AT_ONCE):  # of the upper triangle, some rows at a time
                block = rows[:, first : first + self.AT_ONCE].T @ rows[:, first:]
                part = block[torch.ones_like(block, dtype=torch.bool).triu_()]
                add_whole(total[done : done + len(part)], part)
                done += len(part)

    def dense(self, row: int) -> Tensor:
        vector = self.histories.rows(torch.tensor([row], device=self.histories.values.device))[0]
        return pack(torch.outer(vector, vector))


class HistoryProjection(Contribution):
    """x (x^T V) of each user, (items, rank), held as x and x^T V; basis V (items, rank) with orthonormal columns."""

    def __init__(self, histories: WeightedHistories, basis: Tensor) -> None:
        self.histories = histories
        starts = torch.bincount(histories.owners, minlength=histories.users).cumsum(0)
        starts = torch.cat([starts.new_zeros(1), starts[:-1]])
        self.coordinates = embedding_bag(
            histories.items, basis, starts, mode="sum", per_sample_weights=histories.values
        )

    def norms(self) -> Tensor:
        return self.histories.squares().sqrt() * self.coordinates.double().norm(dim=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.histories.n_items, self.coordinates.shape[1])

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        one = self.histories
        used = weights[one.owners] != 0
        owners, items = one.owners[used], one.items[used]
        weighted = torch.where(weights[:, None] != 0, weights[:, None].double() * self.coordinates.double(), 0.0)
        # No entry of a history is longer than the whole, and no coordinate either.
        left, right = lattice.factor_steps(one.squares().sqrt(), weighted.abs().amax(1))
        value = (one.values[used].double() / left[owners]).trunc_()
        coordinates = (weighted / right[:, None]).trunc_()
        part = torch.zeros(total.shape, dtype=torch.float64, device=total.device)
        add_whole(total, part.index_add_(0, items, value[:, None] * coordinates[owners]))

    def dense(self, row: int) -> Tensor:
        vector = self.histories.rows(torch.tensor([row], device=self.coordinates.device))[0]
        return torch.outer(vector, self.coordinates[row])
