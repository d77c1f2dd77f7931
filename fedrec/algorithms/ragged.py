"""Ragged groups as a few padded rectangles, so that batched tensor programs can work on lists of any length.

Groups of nearly equal length share a rectangle: little padding, few kernels, and every rectangle is small enough
for its gathered rows to stay in a CPU's cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_CAPACITY = {"cpu": 1 << 13, "cuda": 1 << 20}
_FILL = 0.875  # the shortest group of a rectangle fills at least this much of its row (or lacks less than 8)


def rectangles(members: Tensor, lengths: Tensor, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut groups into rectangles: yields (groups (G,), index (G, L)), every group exactly once.

    members: (E,) int64, the members of group 0, then of group 1, ... lengths: (groups,) int64, members per group.
    Row g of `index` holds the members of `groups[g]`, filled up with `pad`. L is the longest group of the
    rectangle, and G x L stays below a fixed capacity unless a single group is longer.
    """
    capacity = _CAPACITY.get(members.device.type, _CAPACITY["cuda"])
    starts = lengths.cumsum(0) - lengths
    ascending = torch.sort(lengths, stable=True)
    sizes = ascending.values.cpu()
    stop = len(sizes)
    while stop > 0:
        longest = int(sizes[stop - 1])
        shortest = min(int(_FILL * longest), max(longest - 8, 0))
        fitting = int(torch.searchsorted(sizes, shortest))
        first = max(fitting, stop - max(capacity // max(longest, 1), 1))
        groups = ascending.indices[first:stop]
        column = torch.arange(longest, device=members.device)
        inside = column < lengths[groups, None]
        position = torch.where(inside, starts[groups, None] + column, 0)
        yield groups, torch.where(inside, members[position], pad) if longest else position
        stop = first
