"""The clip: one weight a user, on the user's whole contribution to a query.

Never per example, and never before something else is multiplied in: a user whose private vector moved with one more
rating moves every clipped example with it, and only a bound on the whole holds.

| the norm of a user's contribution | weight |
|---|---|
| at most the clip, zero included | 1, less the margin where the norm is within it |
| above the clip | clip / norm, less the margin |
| NaN, infinite, or so large that the weight is no normal float32 | 0: the user is left out |
"""

import torch
from torch import Tensor

from fedrec.errors import PrivacyError
from fedrec.privacy.fixed_point import MARGIN, Lattice
from fedrec.privacy.queries import Contribution, DenseContribution, add_rows


def clip_weights(contribution: Contribution, clip_norm: float) -> Tensor:
    """Compute weights (B,) float64 for which no user's weighted contribution has an L2 norm above `clip_norm`."""
    norms = contribution.norms().double()
    weights = (clip_norm * (1 - MARGIN) / norms).clamp(max=1.0)
    usable = norms.isfinite() & (weights >= torch.finfo(torch.float32).tiny)
    return torch.where(usable, weights, 0.0)


class MeasuredContribution(Contribution):
    """A contribution of foreign code: each user's row is measured here, and exactly the measured row is added.

    Foreign code gives a dense row for each user and nothing else. Its own `norms` and `add_to` are never called, so a
    norm that is too small buys nothing. It costs one pass over dense rows to measure, and one to add.
    """

    def __init__(self, given: Contribution, users: int, shape: tuple[int, ...]) -> None:
        self._given, self._users, self._shape = given, users, tuple(shape)
        self._norms: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def norms(self) -> Tensor:
        if self._norms is None:
            rows = [self.dense(row).double().norm() for row in range(self._users)]
            self._norms = torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)
        return self._norms

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        norms = self.norms()
        for row in (weights != 0).nonzero()[:, 0].tolist():
            values = self.dense(row)
            if not bool(values.double().norm() <= norms[row]):
                raise PrivacyError("a user's part changed between its measurement and its sum; nothing is added")
            add_rows(total, values[None], weights[row : row + 1], lattice)

    def dense(self, row: int) -> Tensor:
        values = self._given.dense(row)
        if tuple(values.shape) != self._shape:
            raise PrivacyError(f"a user's part has the shape {tuple(values.shape)}, its query {self._shape}")
        return values


def measured(contribution: Contribution, users: int, shape: tuple[int, ...], *, own: bool) -> Contribution:
    """Return `contribution` with norms that are certainly those of the rows that it adds.

    Args:
        contribution: the parts of a batch in one query.
        users: how many users the batch has.
        shape: the query's.
        own: whether algorithm and contribution are fedrec's own, whose tests show that their norms are true.

    Returns: the contribution itself where it is fedrec's own or holds plain dense rows; else a `MeasuredContribution`.
    Raises: PrivacyError where dense rows are more or fewer than users, or of another shape.
    """
    if type(contribution) is DenseContribution:
        if tuple(contribution.values.shape) != (users, *shape):
            raise PrivacyError(f"{tuple(contribution.values.shape)} numbers for {users} users and a query of {shape}")
        return contribution
    return contribution if own else MeasuredContribution(contribution, users, shape)
