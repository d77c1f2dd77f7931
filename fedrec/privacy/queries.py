"""What is asked of users: sums, and what one user adds to them.

A `SumQuery` names a sum over users and bounds one user's whole part in it. A `Contribution` holds the parts of a
batch of users without a dense vector per user: it tells each user's L2 norm and gives the weighted sum.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.errors import PrivacyError


@dataclass(frozen=True)
class SumQuery:
    """One private sum: its name, shape, the L2 clip on a user's WHOLE contribution, its part of the budget.

    budget_share: fraction of the run's total squared signal-to-noise (mu^2 in the Gaussian-DP sense) that this
    one release may use. Over all rounds and queries of a run the shares sum to at most 1.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float
    budget_share: float

    def __post_init__(self) -> None:
        if not (self.clip_norm > 0 and math.isfinite(self.clip_norm)):
            raise PrivacyError(f"query '{self.name}': clip norm must be a positive number, got {self.clip_norm}")
        if not 0 < self.budget_share <= 1:
            raise PrivacyError(f"query '{self.name}': budget share must be in (0, 1], got {self.budget_share}")

    @property
    def size(self) -> int:
        """Numbers in the sum."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class PrivateSum:
    """A sum after the clip and the noise. noise_std: standard deviation of the noise on each entry (0 without)."""

    value: Tensor
    noise_std: float


class Contribution(ABC):
    """The parts of B users in one sum. Rows of weight zero are skipped, never multiplied (NaN * 0 is NaN)."""

    @abstractmethod
    def norms(self) -> Tensor:
        """L2 norm of each user's whole contribution, (B,) float64; NaN or infinite where a part is."""

    def unit_weights(self) -> Tensor:
        """A weight of one for each user, (B,) float64; override it where B is known without the norms."""
        return torch.ones_like(self.norms())

    @abstractmethod
    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Sum over users of weights[u] * contribution[u], float32, the query's shape; weights (B,)."""

    def add_to(self, total: Tensor, weights: Tensor) -> None:
        """Add the weighted sum to `total` in place; override it where a second tensor of the sum's size hurts."""
        total.add_(self.weighted_sum(weights))

    @abstractmethod
    def dense(self, row: int) -> Tensor:
        """One user's contribution, the query's shape (for a device that masks it, and for slow oracles)."""


class DenseContribution(Contribution):
    """Contributions held as one dense row per user: values (B, *shape).

    At least float32 from here on: in half precision the weights would be rounded by more than the clip's margin.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values if values.dtype == torch.float64 else values.float()

    def norms(self) -> Tensor:
        return self.values.double().flatten(1).norm(dim=1)

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.values), dtype=torch.float64, device=self.values.device)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        used = weights != 0
        return torch.tensordot(weights[used].to(self.values.dtype), self.values[used], dims=1).float()

    def dense(self, row: int) -> Tensor:
        return self.values[row].float()


class SparseContribution(Contribution):
    """Contributions as coordinates: user `owners[n]` adds `values[n]` at flat position `positions[n]`.

    A position may occur at most once per user (the norm relies on it). The release has dense support all the
    same: noise goes on every entry of the sum, so which entries a user touched is not shown.
    """

    def __init__(self, owners: Tensor, positions: Tensor, values: Tensor, users: int, shape: tuple[int, ...]) -> None:
        self.owners, self.positions, self.values, self.users, self.shape = (
            owners,
            positions,
            values,
            users,
            shape,
        )

    def norms(self) -> Tensor:
        squares = torch.zeros(self.users, dtype=torch.float64, device=self.values.device)
        return squares.index_add_(0, self.owners, self.values.double() ** 2).sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(self.users, dtype=torch.float64, device=self.values.device)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        weight = weights[self.owners].to(self.values.dtype)
        used = weight != 0
        total = torch.zeros(math.prod(self.shape), dtype=torch.float32, device=self.values.device)
        return total.index_add_(0, self.positions[used], (weight * self.values)[used].float()).view(self.shape)

    def dense(self, row: int) -> Tensor:
        mine = self.owners == row
        total = torch.zeros(math.prod(self.shape), dtype=torch.float32, device=self.values.device)
        return total.index_add_(0, self.positions[mine], self.values[mine].float()).view(self.shape)
