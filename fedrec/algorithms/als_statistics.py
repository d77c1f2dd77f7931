"""What a user adds in a round of `als`: outer products of the user's vector, as exact integers.

The vector's entries become integers before they are multiplied, so a sum over users is one of integers in any order.
"""

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

from fedrec.algorithms.ragged import each_rectangle
from fedrec.data.users import UserBatch
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution
from fedrec.rowwise import as_written

_FEW = 8  # users of a batch whose outer products are made once each
_PAIRS_AT_ONCE = 1 << 9
_ITEMS_AT_ONCE = {"cpu": 64, "cuda": 1 << 19}  # on a CPU their products stay in a core's cache


class SymmetricPacking:
    """svec: a symmetric (d, d) matrix as its d(d+1)/2 upper entries, those off the diagonal times sqrt(2).

    The L2 norm of the packed vector is the Frobenius norm of the matrix, so clip and noise treat both alike.
    """

    def __init__(self, dim: int, device: torch.device) -> None:
        row, column = torch.triu_indices(dim, dim, device=device)
        self.dim, self.size = dim, len(row)
        self._entries = row * dim + column
        self._scale = torch.where(row == column, 1.0, math.sqrt(2.0))
        self._source = torch.zeros(dim, dim, dtype=torch.int64, device=device)
        self._source[row, column] = self._source[column, row] = torch.arange(self.size, device=device)
        self._unscale = (1.0 / self._scale)[self._source]

    def pack(self, matrices: Tensor) -> Tensor:
        """(..., d, d) symmetric to (..., d(d+1)/2)."""
        return self.upper(matrices) * self._scale

    def upper(self, matrices: Tensor) -> Tensor:
        """As `pack`, in the units of `fedrec.privacy.queries.packed_units`: off the diagonal not times sqrt(2)."""
        return matrices.flatten(-2).index_select(-1, self._entries)

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of `pack`."""
        full = packed.index_select(-1, self._source.flatten()).unflatten(-1, (self.dim, self.dim))
        return full * self._unscale


class GramContribution(Contribution):
    """w w^T of each user, packed; vectors (B, d)."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors
        self.packing = SymmetricPacking(vectors.shape[1], vectors.device)
        self.packed = vectors.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.packing.size,)

    def norms(self) -> Tensor:
        return self.vectors.double().square().sum(1)

    def unit_weights(self) -> Tensor:
        return self.vectors.new_ones(len(self.vectors), dtype=torch.float64)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        used = weights != 0
        factors = lattice.halves(self.vectors[used].double() * weights[used, None].double().sqrt())
        with as_written():
            add_whole(total, self.packing.upper(factors.mT @ factors))

    def dense(self, row: int) -> Tensor:
        return self.packing.pack(torch.outer(self.vectors[row], self.vectors[row]))


class ItemStatistics(Contribution):
    """(w w^T packed, w, 1) added to each item of a user's history, as often as it occurs there.

    Held as the users' vectors and who has which item, never as a row of items x statistics per user. All of it is in
    the outer product of (w, 1) with itself, whose factors become integers before they are multiplied.
    """

    def __init__(self, vectors: Tensor, users: UserBatch) -> None:
        self.vectors, self.users = vectors, users
        self.packing = SymmetricPacking(vectors.shape[1], vectors.device)
        self.packed = vectors.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.users.n_items, self.packing.size + self.packed + 1)

    @cached_property
    def _by_item(self) -> tuple[Tensor, Tensor]:
        order = torch.sort(self.users.items.int(), stable=True)  # within an item, owners stay ascending
        return order.values.long(), self.users.owners[order.indices]

    def norms(self) -> Tensor:
        items, owners = self._by_item
        _, repeats = torch.unique_consecutive(owners + items * len(self.users), return_counts=True)
        owner = owners[repeats.cumsum(0) - 1]
        squares = torch.zeros(len(self.users), dtype=torch.float64, device=owners.device)
        squares.index_add_(0, owner, repeats.double() ** 2)
        length = self.vectors.double().square().sum(1)
        # A user without events adds nothing, whatever the vector is.
        return torch.where(squares > 0, (squares * (length**2 + length + 1)).sqrt(), 0.0)

    def unit_weights(self) -> Tensor:
        return self.vectors.new_ones(len(self.vectors), dtype=torch.float64)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        items, owners = self._by_item
        used = weights != 0
        if not bool(used.all()):
            events = used[owners]
            items, owners = items[events], owners[events]
        vectors = torch.where(used[:, None], self.vectors.double(), 0.0)
        extended = torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1) * weights[:, None].double().sqrt()
        table = pad(lattice.halves(extended), (0, self._width - extended.shape[1], 0, 1))  # (B + 1, width)
        lengths = torch.bincount(items, minlength=self.shape[0])
        add_whole(total[:0], table.abs().amax()[None].square() * lengths.max())  # no entry of this batch is larger
        if len(self.users) <= _FEW:
            self._add_few(total, table, items, owners)
            return
        width, half, entries = self._width, self._width // 2, self._entries
        at_once = _ITEMS_AT_ONCE["cpu" if total.device.type == "cpu" else "cuda"]

        def add_up(group: Tensor, index: Tensor) -> None:
            for items, owners in zip(group.split(at_once), index.split(at_once), strict=True):
                rows = embedding(owners, table)  # (G, L, width)
                products = rows.new_empty(len(items), half * (width + half))
                upper, lower = products.split([half * width, half * half], dim=1)
                torch.bmm(rows[:, :, :half].mT, rows, out=upper.unflatten(1, (half, width)))
                right = rows[:, :, half:]  # what is left of these is in `upper` already
                torch.bmm(right.mT, right, out=lower.unflatten(1, (half, half)))
                _add_rows(total, items, _columns(products, entries).long())

        each_rectangle(add_up, owners, lengths, pad=len(self.users), least=4)

    def _add_few(self, total: Tensor, table: Tensor, items: Tensor, owners: Tensor) -> None:
        """The same integers where few users have many items: each user's are made once, and multiplied by counts."""
        row, column = torch.triu_indices(self.packed, self.packed, device=table.device)
        vectors, one = table[:-1, : self.packed], table[:-1, self.packed, None]
        each = torch.cat([vectors[:, row] * vectors[:, column], vectors * one, one.square()], 1).long()
        pairs, counts = torch.unique(owners * self.shape[0] + items, return_counts=True)
        for some, count in zip(pairs.split(_PAIRS_AT_ONCE), counts.split(_PAIRS_AT_ONCE), strict=True):
            total.index_add_(0, some % self.shape[0], each[some // self.shape[0]] * count[:, None])

    @cached_property
    def _entries(self) -> Tensor:
        """Where each number of an item is among its products: `upper` (half, width), then `lower` (half, half)."""
        dim, width, half = self.packed, self._width, self._width // 2
        row, column = torch.triu_indices(dim, dim, device=self.vectors.device)
        last = torch.arange(dim + 1, device=row.device)  # the products with the one
        row, column = torch.cat([row, last]), torch.cat([column, torch.full_like(last, dim)])
        return torch.where(row < half, row * width + column, half * width + (row - half) * half + column - half)

    @property
    def _width(self) -> int:
        return -(-(self.packed + 1) // 8) * 8  # products of whole vector registers are faster

    def dense(self, row: int) -> Tensor:
        vector = self.vectors[row]
        packed = self.packing.pack(torch.outer(vector, vector))
        one = torch.cat([packed, vector, vector.new_ones(1)])
        mine = self.users.slice(row, row + 1).items
        count = torch.bincount(mine, minlength=self.shape[0]).to(vector.dtype)
        return torch.where(count[:, None] > 0, count[:, None] * one, 0.0)


def _columns(table: Tensor, columns: Tensor) -> Tensor:
    """`table[:, columns]`; NumPy is nearly twice as fast at it on a CPU."""
    if table.device.type != "cpu":
        return table.index_select(1, columns)
    found = table.new_empty(len(table), len(columns))
    np.take(table.numpy(), columns.numpy(), axis=1, out=found.numpy(), mode="clip")  # other modes make a copy first
    return found


def _add_rows(total: Tensor, rows: Tensor, part: Tensor) -> None:
    """Add `part` to rows of `total`, each named once; NumPy is twice as fast at it on a CPU."""
    if total.device.type != "cpu":
        total.index_add_(0, rows, part)
        return
    total.numpy()[rows.numpy()] += part.numpy()
