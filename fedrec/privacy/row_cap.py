"""A cap on rows: no item's row of a user's part is longer than a part of the clip, before the whole part is clipped.

An honest user spreads the clip over a history. A user who wants to push one item puts all of it into that item's row.
The cap takes that away, in a sum that has a row for each item.

**Guarantee.** The cap is a function of the user's own part and lengthens no entry. The clip on the whole part follows
it as before. So sensitivity and epsilon hold as they did, in every trust model.
"""

import torch
from torch import Tensor

from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, SumQuery

_KEPT = 1 << 25
"""Numbers of a batch that are kept between its measurement and its sum: 256 MB; of larger ones rows are cut again."""


class CappedRows(Contribution):
    """`inner` with each item's row of each user's part cut to a norm of at most `cap`.

    Users are handled one at a time, so the integers of one do not depend on another.

    Args:
        inner: the parts of a batch.
        cap: largest L2 norm of a row, in units of the sum.
        users: of the batch.
        query: with a row for each item.
        own: whether `inner` is fedrec's own; the rows of other code are read once.
    """

    def __init__(self, inner: Contribution, cap: float, users: int, query: SumQuery, *, own: bool = False) -> None:
        self.inner, self.cap, self.users, self.query, self.packed = inner, cap, users, query, query.packed
        keep = not own or users * query.size <= _KEPT
        self._parts = [self._cut(row) for row in range(users)] if keep else None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.query.shape

    def norms(self) -> Tensor:
        norms = [self._part(row)[1].norm() for row in range(self.users)]
        return torch.stack(norms) if norms else torch.zeros(0, dtype=torch.float64)

    def unit_weights(self) -> Tensor:
        return self.inner.unit_weights()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        for row in (weights != 0).nonzero()[:, 0].tolist():
            rows, values = self._part(row)
            total.index_add_(0, rows, self.query.encode(values * float(weights[row]), lattice))

    def dense(self, row: int) -> Tensor:
        rows, values = self._part(row)
        found = torch.zeros(self.query.shape, dtype=torch.float32, device=values.device)
        return found.index_copy_(0, rows, values.float())

    def _part(self, row: int) -> tuple[Tensor, Tensor]:
        return self._cut(row) if self._parts is None else self._parts[row]

    def _cut(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the rows of a user's part that are not zero, (n,) int64, and their values, (n, ...) float64."""
        part = self.inner.dense(row)
        flat = part.reshape(part.shape[0], -1)
        rows = (flat != 0).any(1).nonzero()[:, 0]
        values = flat[rows].double()
        factor = (self.cap / values.norm(dim=1, keepdim=True)).clamp(max=1.0)
        return rows, (values * factor).reshape(len(rows), *part.shape[1:])


def longest_row(total: Tensor) -> float:
    """Return the largest L2 norm of a row of a sum (rows, ...)."""
    return float(total.double().reshape(total.shape[0], -1).norm(dim=1).max()) if total.numel() else 0.0
