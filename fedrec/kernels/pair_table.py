"""Square tables of sums over pairs of items with few entries, and kernels made of them."""

import warnings
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fedrec.kernels.feature_map import NeighbourMap

_ROWS = 256  # rows in memory, with zeros up to the longest one


class Pairs:
    """A square table of non-negative sums with few entries, in compressed form.

    Args:
        keys: (entries,) int64, row * items + column, ascending.
        values: (entries,) float32.
        items: number of rows.
    """

    def __init__(self, keys: Tensor, values: Tensor, items: int) -> None:
        self.keys, self.values, self.items = keys, values, items

    @cached_property
    def rows(self) -> Tensor:
        """(entries,) int64."""
        return torch.repeat_interleave(torch.arange(self.items, device=self.keys.device), self.starts.diff())

    @property
    def columns(self) -> Tensor:
        """(entries,) int64."""
        return self.keys - self.rows * self.items

    @cached_property
    def starts(self) -> Tensor:
        """(items + 1,) int64: row i has the entries starts[i] to starts[i + 1] - 1."""
        ends = torch.arange(self.items + 1, device=self.keys.device) * self.items
        return torch.searchsorted(self.keys, ends)

    @classmethod
    def of(cls, block: Tensor, first: int) -> "Pairs":
        """The entries of a block (rows, items) whose first row is `first`."""
        items = block.shape[1]
        flat = block.view(-1)
        keys = flat.nonzero()[:, 0]
        return cls(keys + first * items, flat[keys], items)

    def both_ways(self) -> "Pairs":
        """The table plus its transpose."""
        keys = torch.cat([self.keys, self.columns * self.items + self.rows])
        found, where = torch.unique(keys, return_inverse=True)
        values = self.values.new_zeros(len(found)).index_add_(0, where, self.values.repeat(2))
        return Pairs(found, values, self.items)

    def diagonal(self) -> Tensor:
        """(items,)"""
        on = self.rows == self.columns
        return self.values.new_zeros(self.items).index_add_(0, self.rows[on], self.values[on])

    def off_diagonal(self) -> "Pairs":
        """The same table without its diagonal."""
        off = self.rows != self.columns
        return Pairs(self.keys[off], self.values[off], self.items)

    def margins(self) -> tuple[Tensor, Tensor]:
        """The sums of the rows and of the columns, (items,) each."""
        zero = torch.zeros(self.items, dtype=torch.float64, device=self.values.device)
        values = self.values.double()
        return zero.index_add(0, self.rows, values), zero.index_add(0, self.columns, values)

    def matrix(self) -> Tensor:
        """The table as a sparse CSR matrix."""
        return csr(self.rows, self.columns, self.values, (self.items, self.items))

    def joined(self, other: "Pairs") -> "Pairs":
        """The entries of both tables, which share none."""
        keys, order = torch.cat([self.keys, other.keys]).sort()
        return Pairs(keys, torch.cat([self.values, other.values])[order], self.items)

    def dense(self, items: int, columns: int | None = None) -> Tensor:
        """The rows of the first `items` items and the first `columns` columns, or as many: (items, columns)."""
        columns = items if columns is None else columns
        inside = (self.rows < items) & (self.columns < columns)
        table = self.values.new_zeros(items, columns)
        table[self.rows[inside], self.columns[inside]] = self.values[inside]
        return table


def csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse CSR matrix of entries that are sorted by row, then column; (entries,) each."""
    starts = torch.searchsorted(rows, torch.arange(shape[0] + 1, device=rows.device))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, shape, device=values.device, check_invariants=False)


def strongest(pairs: Pairs, most: int) -> Pairs:
    """The `most` largest entries of each row by size, without zeros; of equal ones the first."""
    least, quota = _least(pairs, most)
    size = pairs.values.abs()
    kept = (size > least[pairs.rows]) & (size > 0)
    tied = ((size == least[pairs.rows]) & (size > 0)).nonzero()[:, 0]
    rows = pairs.rows[tied]
    place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
    kept[tied] = place < quota[rows]
    return Pairs(pairs.keys[kept], pairs.values[kept], pairs.items)


def _least(pairs: Pairs, most: int) -> tuple[Tensor, Tensor]:
    """The size of the last entry that is kept of each row, and how many of that size are kept, (items,) each."""
    size, starts = pairs.values.abs(), pairs.starts
    least, quota = size.new_zeros(pairs.items), starts.new_full((pairs.items,), most)
    long = (starts.diff() > most).nonzero()[:, 0]
    for some in long.split(_ROWS) if len(long) else ():
        ends = starts[some + 1].tolist()
        rows = [size[first:end] for first, end in zip(starts[some].tolist(), ends, strict=True)]
        largest = pad_sequence(rows, batch_first=True).topk(most, dim=1, sorted=False).values
        least[some] = largest.min(1).values
        quota[some] = (largest == least[some, None]).sum(1)
    return least, quota


def neighbour_map(pairs: Pairs, head: Tensor, items: int) -> NeighbourMap:
    """The map over `items` items of a table over the items `head` (n,); the others are nobody's neighbours."""
    rows, columns = head[pairs.rows], head[pairs.columns]
    order = (rows * items + columns).argsort()
    counts = torch.bincount(rows, minlength=items)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return NeighbourMap(starts, columns[order], pairs.values[order])
