"""Ragged groups as a few padded rectangles, so that batched tensor programs can work on lists of any length.

Groups of nearly equal length share a rectangle: little padding, few kernels, and every rectangle is small enough
for its gathered rows to stay in a CPU's cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_CAPACITY = {"cpu": 1 << 13, "cuda": 1 << 19}
_SHORT = 32  # groups count as at least that long
_FILL = 0.875  # the shortest group of a rectangle fills at least this much of its row (or lacks less than 8)


def rectangles(members: Tensor, lengths: Tensor, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut groups into rectangles: yields (groups (G,), index (G, L)); every group once, but for the empty ones.

    members: (E,) int64, the members of group 0, then of group 1, ... lengths: (groups,) int64, members per group.
    Row g of `index` holds the members of `groups[g]`, filled up with `pad`. L is the longest group of the
    rectangle, and G x L stays below a fixed capacity unless a single group is longer; G is limited too, since a
    caller may make a matrix of each group.
    """
    capacity = _CAPACITY.get(members.device.type, _CAPACITY["cuda"])
    starts = lengths.cumsum(0) - lengths
    ascending = torch.sort(lengths, stable=True)
    sizes = ascending.values.cpu()
    stop = len(sizes)
    empty = int((sizes == 0).sum())
    while stop > empty:
        longest = int(sizes[stop - 1])
        shortest = max(min(int(_FILL * longest), longest - 8), 1)
        fitting = int(torch.searchsorted(sizes, shortest))
        first = max(fitting, stop - max(capacity // max(longest, _SHORT), 1))
        groups = ascending.indices[first:stop]
        column = torch.arange(longest, device=members.device)
        inside = column < lengths[groups, None]
        position = torch.where(inside, starts[groups, None] + column, 0)
        yield groups, torch.where(inside, members[position], pad)
        stop = first
