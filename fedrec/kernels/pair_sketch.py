"""A sketch of the co-occurrence: fewer numbers than pairs, where the noise hides what else is in a number.

Each pair of head items has one of `places` numbers, and a sign (`pair_places`). A user adds its pairs there with their
signs, and divides by the L2 norm of the result: norm exactly 1, as without a sketch. The server reads a pair from its
number, less what the popularity of the other pairs there predicts. The noise of a pair stays that of one number. What
is left of the other pairs adds to it; `kernel_rank_plan` asks for a sketch where that is small beside the noise.

Within a user the signed decays are whole numbers of 2^-18. So their sums and squares are exact in any order, and
server and device agree to the bit.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import REACH, LaggedPairs
from fedrec.kernels.pair_places import UNITS, places
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import PrivateSum

AT_ONCE = 1 << 21
"""Pairs of users that are in memory at once."""


class SketchedPairs(LaggedPairs):
    """Users' sketches of their pairs. Items must be distinct within a user."""

    def __init__(self, users: UserBatch, location: Tensor, head: int, skip: int, count: int) -> None:
        """count: numbers of the sketch; the others as in `LaggedPairs`."""
        super().__init__(users, location, head, skip)
        self.count = count

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        part = torch.zeros(self.count, dtype=torch.float64, device=total.device)
        for first, last in self._groups():
            owners, place, values = self._sketches(first, last)
            squares = torch.zeros(last - first, dtype=torch.int64, device=part.device)
            squares.index_add_(0, owners, values.square())
            scale = weights[first:last].double() / squares.double().sqrt()
            scale = torch.where((weights[first:last] != 0) & (squares > 0), scale, 0.0)
            part.index_add_(0, place, lattice.whole(scale[owners] * values.double()))
        add_whole(total, part)

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Yield first and last user of groups with `AT_ONCE` pairs at most, or of one user."""
        lengths = self.users.lengths
        reach = torch.where(self.known, lengths.clamp(max=REACH + 1), lengths)
        found = (reach * (reach - 1) // 2 + (lengths - reach) * REACH).cumsum(0).tolist()
        first, before = 0, 0
        for user, pairs in enumerate(found):
            if pairs - before > AT_ONCE and user > first:
                yield first, user
                first, before = user, found[user - 1]
        if first < len(found):
            yield first, len(found)

    def _sketches(self, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return owners from `first` on, places and whole values, each place once a user: int64 (n,) each."""
        units = (self.powers * UNITS).round().long().tolist()
        keys, values = [self.users.lengths[:0]], [self.users.lengths[:0]]
        for lag, user, pair in self.by_lag(first, last):
            at, sign = places(pair, self.count)
            keys.append((user - first) * self.count + at)
            values.append(sign * torch.where(self.known[user], units[lag - 1] if lag <= REACH else 0, UNITS))
        key, inverse = torch.unique(torch.cat(keys), return_inverse=True)
        summed = torch.zeros(len(key), dtype=torch.int64, device=key.device).index_add_(0, inverse, torch.cat(values))
        return key // self.count, key % self.count, summed


def pairs_of(sketch: PrivateSum, popularity: Tensor) -> PrivateSum:
    """Return each pair of the head as the sketch shows it, with the standard deviation of a pair's error.

    Args:
        sketch: its noisy sum, (count,).
        popularity: of the head items, (head,) > 0.
    """
    head, count = len(popularity), len(sketch.value)
    row, column = torch.triu_indices(head, head, 1, device=popularity.device)
    expected = popularity[row] * popularity[column]
    at, sign = places(torch.arange(len(row), device=row.device), count)
    predicted = torch.zeros(count, device=row.device).index_add_(0, at, expected * sign)
    level = float((predicted * sketch.value).sum() / (predicted * predicted).sum().clamp(min=1e-30))
    level = max(0.0, level)  # noise alone may fit a level below zero, but counts are not
    left = sketch.value - level * predicted
    others = max(0.0, float(left.square().mean()) - sketch.noise_std**2)  # a pair's number holds as many others as any
    return PrivateSum(level * expected + sign * left[at], math.sqrt(sketch.noise_std**2 + others))
