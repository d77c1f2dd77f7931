"""Private co-occurrence: which head items follow each other closely in time, released once.

For every unordered pair of head items at most `REACH` steps apart in the history, each user adds decay^(steps - 1), and
divides the whole vector by its own L2 norm: norm exactly 1, so nothing is lost to the clip. A user whose order of
events is unknown adds 1 for every pair, since no pair is closer than another. The norm has a closed form in the length
of the history, and the sum is built lag by lag, so no user's pair vector ever exists.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import MOST_BITS, Lattice, add_whole
from fedrec.privacy.queries import Contribution, SumQuery

DECAY = 0.9
REACH = 50


def pairs(head: int) -> int:
    """Unordered pairs of `head` items."""
    return head * (head - 1) // 2


def cooccurrence_query(numbers: int, share: float, bits: int = MOST_BITS) -> SumQuery:
    """The sum of unit-norm pair vectors, upper triangle row by row, or of their sketches. bits: as in `SumQuery`."""
    return SumQuery("cooccurrence", (numbers,), clip_norm=1.0, budget_share=share, bits=bits)


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
        self.known = users.recency(0.5) < 1  # whose order of events is known, (B,)
        powers = torch.full((REACH,), DECAY, device=self.place.device)
        powers[0] = 1.0
        self.powers = powers.double().cumprod(0)  # (REACH,): decay^(lag - 1)
        steps = torch.arange(1, REACH + 1, device=self.place.device)
        found = (self.users.lengths[:, None] - steps).clamp(min=0).double()  # (B, REACH) pairs at each lag
        near = (found * self.powers.square()).sum(1)
        every = self.users.lengths.double() * (self.users.lengths - 1) / 2
        self.scale = torch.where(self.known, near, every).rsqrt()

    def norms(self) -> Tensor:
        return (self.users.lengths > 1).double()

    @property
    def shape(self) -> tuple[int, ...]:
        return (pairs(self.head),)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        part = torch.zeros(total.numel(), dtype=torch.float64, device=total.device)
        scale = torch.where(weights != 0, weights * self.scale, 0.0).double()  # users without a pair have scale inf
        unordered = lattice.whole(scale)
        for lag, user, position in self.by_lag(0, len(self.users)):
            value = unordered
            if lag <= REACH:
                value = torch.where(self.known, lattice.whole(scale * self.powers[lag - 1]), unordered)
            part.index_add_(0, position, value[user])
        add_whole(total, part)

    def by_lag(self, first: int, last: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield steps between two events; of each pair so far apart the user, and its place in the triangle.

        Args:
            first, last: users first..last-1 of the batch.
        """
        if first == last:
            return
        events = slice(int(self.users.offsets[first]), int(self.users.offsets[last]))
        owners, place, lengths = self.users.owners[events], self.place[events], self.users.lengths
        reach = torch.where(self.known, REACH, lengths)  # last lag of each user, (B,)
        longest = int(torch.minimum(reach, lengths - 1)[first:last].max())
        for lag in range(1, longest + 1):
            keep = ((lengths > lag) & (reach >= lag))[owners]
            owners, place = owners[keep], place[keep]
            same = owners[lag:] == owners[:-lag]
            a, b = place[lag:][same], place[:-lag][same]
            low, high = torch.minimum(a, b), torch.maximum(a, b)
            yield lag, owners[lag:][same], low * self.head - low * (low + 1) // 2 + high - low - 1

    def dense(self, row: int) -> Tensor:
        weights = torch.zeros(len(self.users), dtype=torch.float64, device=self.place.device)
        weights[row] = 1.0
        return self.weighted_sum(weights)
