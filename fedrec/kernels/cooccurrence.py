"""Private co-occurrence: which head items follow each other closely in time, released once.

For every unordered pair of head items at most `REACH` steps apart in the history, each user adds decay^(steps - 1), and
divides the whole vector by its own L2 norm: norm exactly 1, so nothing is lost to the clip. The norm has a closed form
in the length of the history, and the sum is built lag by lag, so no user's pair vector ever exists.
"""

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution, SumQuery

DECAY = 0.9
REACH = 50


def pairs(head: int) -> int:
    """Unordered pairs of `head` items."""
    return head * (head - 1) // 2


def cooccurrence_query(head: int, share: float) -> SumQuery:
    """The sum of unit-norm pair vectors, upper triangle row by row, (pairs,)."""
    return SumQuery("cooccurrence", (pairs(head),), clip_norm=1.0, budget_share=share)


def triangle(flat: Tensor, head: int) -> Tensor:
    """The symmetric matrix (head, head) with zero diagonal whose upper triangle is `flat`."""
    matrix = torch.zeros(head, head, device=flat.device)
    row, column = torch.triu_indices(head, head, 1, device=flat.device)
    matrix[row, column] = flat
    return matrix + matrix.T


class LaggedPairs(Contribution):
    """Users' pair vectors over head items, factored by lag. Items must be distinct within a user."""

    def __init__(self, users: UserBatch, location: Tensor, head: int, skip: int) -> None:
        """location: (items,) position among the head items, -1 for the tail. skip: newest events left out."""
        users = users.without_repeats()
        self.users = users.where((location[users.items] >= 0) & (users.lags >= skip))
        self.place = location[self.users.items]
        self.head = head
        self.decay = users.recency(DECAY).double()
        steps = torch.arange(1, REACH + 1, device=self.place.device)
        found = (self.users.lengths[:, None] - steps).clamp(min=0).double()  # (B, REACH) pairs at each lag
        rates = torch.cat([torch.ones_like(self.decay[:, None]), self.decay[:, None].expand(-1, REACH - 1)], 1)
        self.powers = rates.cumprod(1)  # (B, REACH): decay^(lag - 1)
        self.scale = (found * self.powers.square()).sum(1).rsqrt()

    def norms(self) -> Tensor:
        return (self.users.lengths > 1).double()

    def _positions(self, lag: int) -> tuple[Tensor, Tensor]:
        owners = self.users.owners
        same = owners[lag:] == owners[:-lag]
        a, b = self.place[lag:][same], self.place[:-lag][same]
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        return owners[lag:][same], low * self.head - low * (low + 1) // 2 + high - low - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (pairs(self.head),)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        part = torch.zeros(total.numel(), dtype=torch.float64, device=total.device)
        scale = torch.where(weights != 0, weights * self.scale, 0.0).double()  # users without a pair have scale inf
        longest = int(self.users.lengths.max()) if len(self.users) else 0
        for lag in range(1, min(REACH + 1, longest)):
            owners, position = self._positions(lag)
            part.index_add_(0, position, lattice.whole(scale * self.powers[:, lag - 1])[owners])
        add_whole(total, part)

    def dense(self, row: int) -> Tensor:
        weights = torch.zeros(len(self.users), dtype=torch.float64, device=self.place.device)
        weights[row] = 1.0
        return self.weighted_sum(weights)
