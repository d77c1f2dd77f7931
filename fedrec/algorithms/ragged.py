"""Ragged groups as a few padded rectangles, so that batched tensor programs can work on lists of any length.

Groups of nearly equal length share a rectangle: little padding, few kernels, and every rectangle is small enough
for its gathered rows to stay in a CPU's cache.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fedrec.parallel import run_jobs

CAPACITY = {"cpu": 1 << 13, "cuda": 1 << 19}
_SHORT = 32  # groups count as at least that long: a caller may make a matrix of each, so their number is limited too
_FILL = 0.875  # the shortest group of a rectangle fills at least this much of its row (or lacks less than 8)


def each_rectangle(work: Callable[[Tensor, Tensor], None], members: Tensor, lengths: Tensor, pad: int) -> None:
    """Cut groups into rectangles and call `work(groups, index)` for each, several at a time on a CPU.

    members: (E,) int64, the members of group 0, then of group 1, ... lengths: (groups,) int64, members per group.
    groups: (G,) int64; every group comes once, but for the empty ones, which never come. index: (G, L) int64, row g
    holds the members of `groups[g]`, filled up with `pad`. L is the longest group of the rectangle, and G x L stays
    below a fixed capacity unless a single group is longer.
    """
    starts = lengths.cumsum(0) - lengths
    ascending = torch.sort(lengths, stable=True)

    def fill(first: int, stop: int, longest: int) -> None:
        groups = ascending.indices[first:stop]
        column = torch.arange(longest, device=members.device)
        inside = column < lengths[groups, None]
        position = torch.where(inside, starts[groups, None] + column, 0)
        work(groups, torch.where(inside, members[position], pad))

    capacity = CAPACITY["cpu" if members.device.type == "cpu" else "cuda"]
    run_jobs(fill, _cuts(ascending.values.cpu(), capacity), members.device)


def _cuts(sizes: Tensor, capacity: int) -> Iterator[tuple[int, int, int]]:
    """(first, stop, longest) of each rectangle, for ascending group sizes."""
    empty, stop = int((sizes == 0).sum()), len(sizes)
    while stop > empty:
        longest = int(sizes[stop - 1])
        shortest = max(min(int(_FILL * longest), longest - 8), 1)
        similar = int(torch.searchsorted(sizes, shortest))
        first = max(similar, stop - max(capacity // max(longest, _SHORT), 1))
        yield first, stop, longest
        stop = first
