"""Ragged groups as a few padded rectangles, so that batched tensor programs can work on lists of any length.

Groups of nearly equal length share a rectangle: little padding, few kernels, and every rectangle is small enough
for its gathered rows to stay in a CPU's cache. How far a group is padded follows from its own length.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fedrec.parallel import run_jobs
from fedrec.rowwise import LONGEST, as_written

CAPACITY = {"cpu": 1 << 13, "cuda": 1 << 19}
_SHORT = 32  # groups count as at least that long: a caller may make a matrix of each, so their number is limited too
STEP = 16  # rows are a multiple of this long: then matrix products need no padding of their own


def padded_lengths(lengths: Tensor, least: int = STEP) -> Tensor:
    """How long the rows of groups of these lengths are: a multiple of `least`, and at most an eighth more than that,
    or whole parts of a long product.

    A group's row must not depend on its neighbours' lengths: sums along it would be taken in another order.
    """
    eighth = torch.frexp((lengths.clamp(min=1) - 1).double()).exponent - 4  # so that 8 to 16 steps reach the length
    step = torch.clamp(1 << eighth.long().clamp(min=0), min=least)
    step = torch.where(lengths > LONGEST, step.clamp(min=LONGEST), step)
    return torch.where(lengths > 0, -(-lengths // step) * step, 0)


def each_rectangle(
    work: Callable[[Tensor, Tensor], None], members: Tensor, lengths: Tensor, pad: int, least: int = STEP
) -> None:
    """Cut groups into rectangles and call `work(groups, index)` for each, several at a time on a CPU.

    members: (E,) int64, the members of group 0, then of group 1, ... lengths: (groups,) int64, members per group.
    groups: (G,) int64; every group comes once, but for the empty ones, which never come. index: (G, L) int64, row g
    holds the members of `groups[g]`, filled up with `pad` to L = padded_lengths, a multiple of `least`. G x L stays
    below a fixed capacity unless a single group is longer. `fedrec.rowwise` pauses: `work` calls its products itself.
    """
    starts = lengths.cumsum(0) - lengths
    ascending = torch.sort(padded_lengths(lengths, least), stable=True)

    def fill(first: int, stop: int, longest: int) -> None:
        groups = ascending.indices[first:stop]
        column = torch.arange(longest, device=members.device)
        inside = column < lengths[groups, None]
        position = torch.where(inside, starts[groups, None] + column, 0)
        work(groups, torch.where(inside, members[position], pad))

    capacity = CAPACITY["cpu" if members.device.type == "cpu" else "cuda"]
    with as_written():
        run_jobs(fill, _cuts(ascending.values.cpu(), capacity), members.device)


def _cuts(sizes: Tensor, capacity: int) -> Iterator[tuple[int, int, int]]:
    """(first, stop, length) of each rectangle, for ascending row lengths."""
    empty, stop = int((sizes == 0).sum()), len(sizes)
    while stop > empty:
        length = int(sizes[stop - 1])
        same = int(torch.searchsorted(sizes, length))
        first = max(same, stop - max(capacity // max(length, _SHORT), 1))
        yield first, stop, length
        stop = first
