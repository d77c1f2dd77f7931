"""Sums over pairs of events without privacy, as rows of an items x items table: what the whole catalogue can show.

A user with n events counts n^(-1/2), the weight that popularity has too (`fedrec.kernels.popularity`). Two tables:

| table | a pair of events adds | to |
|---|---|---|
| together | 1, an event with itself too | both orders of its items |
| following | decay^(steps - 1), while that is 1 % at least | (earlier, later item); nothing without an order |

A table of a large catalogue is asked for in blocks of rows, one a round, so that memory stays bounded.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, SumQuery

LEAST = 0.01
"""Weight below which a pair of events is left out."""
MOST_ENTRIES = 1 << 26
"""Entries of a block: 0.54 GB as exact integers."""
_AT_ONCE = 1 << 21  # pairs in memory


def blocks(head: int) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each block of a table of `head` items."""
    rows = max(1, min(head, MOST_ENTRIES // max(1, head)))
    return [(start, min(start + rows, head)) for start in range(0, head, rows)]


def block_query(name: str, head: int, block: tuple[int, int], share: float) -> SumQuery:
    """The sum of a block of rows, (rows, head)."""
    return SumQuery(name, (block[1] - block[0], head), clip_norm=1.0, budget_share=share)


class PairSums(Contribution):
    """Users' parts of a block of a table. Items must be distinct within a user: repeats are left out.

    Args:
        users: B users.
        skip: newest events of each user that are left out, (B,).
        location: position of each item among the head items, -1 for the tail, (items,).
        head: number of head items.
        block: first and last row (exclusive).
        decay: of the table of following pairs, in (0, 1); None for that of pairs together.
    """

    def __init__(
        self,
        users: UserBatch,
        skip: Tensor,
        location: Tensor,
        head: int,
        block: tuple[int, int],
        decay: float | None = None,
    ) -> None:
        users = (users.without_newest(skip) if bool(skip.any()) else users).without_repeats()
        self.users = users = users.where(location[users.items] >= 0)
        self.place, self.head, self.block, self.decay = location[users.items], head, block, decay
        self.scale = users.lengths.clamp(min=1).double().rsqrt()
        inside = (self.place >= block[0]) & (self.place < block[1])
        if decay is not None:
            inside &= torch.full_like(inside, users.ordered)
            if users.tied is not None:
                inside &= ~users.tied[users.owners]
        self.rows = inside.nonzero()[:, 0]
        owners = users.owners[self.rows]
        if decay is not None:
            self.first = self.rows + 1
            self.counts = (users.offsets[1:][owners] - self.first).clamp(max=1 + int(math.log(LEAST) / math.log(decay)))
        else:
            self.first, self.counts = users.offsets[:-1][owners], users.lengths[owners]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.block[1] - self.block[0], self.head)

    def norms(self) -> Tensor:
        total = torch.zeros(len(self.users), dtype=torch.float64, device=self.place.device)
        for owners, _, values in self._pairs():
            total.index_add_(0, owners, values.square())
        return total.sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.users), dtype=torch.float64, device=self.place.device)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Owner, flat position in the block and value of each pair, some at a time."""
        ends = self.counts.cumsum(0)
        start = 0
        while start < len(self.rows):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, before + _AT_ONCE, right=True)))
            yield self._some(slice(start, stop))
            start = stop

    def _some(self, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows, counts = self.rows[part], self.counts[part]
        which = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        starts = counts.cumsum(0) - counts
        partner = (self.first[part] - starts)[which] + torch.arange(len(which), device=rows.device)
        event = rows[which]
        owners = self.users.owners[event]
        values = self.scale[owners]
        if self.decay is not None:
            values = values * torch.pow(
                torch.tensor(self.decay, dtype=torch.float64, device=rows.device), partner - event - 1
            )
        return owners, (self.place[event] - self.block[0]) * self.head + self.place[partner], values

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        flat = total.view(-1)
        for owners, position, values in self._pairs():
            whole = lattice.whole(torch.where(weights[owners] != 0, weights[owners] * values, 0.0)).long()
            flat.index_add_(0, position, whole)

    def dense(self, row: int) -> Tensor:
        weights = torch.zeros(len(self.users), dtype=torch.float64, device=self.place.device)
        weights[row] = 1.0
        return self.weighted_sum(weights)
