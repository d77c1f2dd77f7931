"""Queries to users: sums, and one user's contribution to them.

A `SumQuery` names a sum over users and bounds one user's whole part in it. A `Contribution` holds the parts of a
batch of users without a dense vector per user: it computes each user's L2 norm and the weighted sum.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.errors import PrivacyError
from fedrec.privacy.fixed_point import FEWEST_BITS, MOST_BITS, Lattice, add_whole


@dataclass(frozen=True)
class SumQuery:
    """One private sum.

    Attributes:
        name: unique in its round.
        shape: of the sum.
        clip_norm: L2 clip on a user's WHOLE contribution.
        budget_share: fraction of the run's total squared signal-to-noise (mu^2 in the Gaussian-DP sense) that this
            one release may use. Over all rounds and queries of a run the shares sum to at most 1.
        packed: 0, or the side of a symmetric matrix whose upper triangle the last dimension begins with; see `units`.
        factors: smallest and largest factor on the clip, where it adapts (`fedrec.privacy.adaptive`): `clip_norm`
            bounds a contribution divided by the round's factor. None: the clip is fixed.
        bits: steps of a clip at most, as an even power of two. Fewer make messages shorter; contributions are rounded
            towards zero to them, so that the clip stays the sensitivity.
        row_cap: largest L2 norm of a row of a user's contribution, in clips (`fedrec.privacy.row_cap`); None for no
            cap.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float
    budget_share: float
    packed: int = 0
    factors: tuple[float, float] | None = None
    bits: int = MOST_BITS
    row_cap: float | None = None

    def __post_init__(self) -> None:
        if not (self.clip_norm > 0 and math.isfinite(self.clip_norm)):
            raise PrivacyError(f"query '{self.name}': clip norm must be a positive number, got {self.clip_norm}")
        if not 0 < self.budget_share <= 1:
            raise PrivacyError(f"query '{self.name}': budget share must be in (0, 1], got {self.budget_share}")
        if not (FEWEST_BITS <= self.bits <= MOST_BITS and self.bits % 2 == 0):
            raise PrivacyError(
                f"query '{self.name}': bits must be even, from {FEWEST_BITS} to {MOST_BITS}, got {self.bits}"
            )
        if self.row_cap is not None and not 0 < self.row_cap <= 1:
            raise PrivacyError(f"query '{self.name}': a cap on rows must be in (0, 1] clips, got {self.row_cap}")
        if self.factors is not None and not 0 < self.factors[0] <= 1 <= self.factors[1] < math.inf:
            raise PrivacyError(f"query '{self.name}': factors on the clip must lie around 1, got {self.factors}")

    @property
    def size(self) -> int:
        """The number of entries in the sum."""
        return math.prod(self.shape)

    def lattice(self, users: int) -> Lattice:
        """Return the lattice of sums of up to so many users."""
        return Lattice.of(self.clip_norm, users, self.bits)

    def decode(self, total: Tensor, lattice: Lattice) -> Tensor:
        """Return the sum, float64, of integers (int64) in steps of `lattice`."""
        units, value = self.units(total.device), lattice.values(total)
        return value if units is None else value.mul_(units)

    def encode(self, value: Tensor, lattice: Lattice) -> Tensor:
        """Return one contribution as integers (int64) in steps of `lattice`, rounded towards zero as users round."""
        units = self.units(value.device)
        return lattice.whole(value.double() if units is None else value.double() / units).long()

    def units(self, device: torch.device) -> Tensor | None:
        """Return the value of a lattice step in each entry of the last dimension; None: 1 everywhere."""
        return packed_units(self.packed, self.shape[-1], device) if self.packed else None


def packed_units(side: int, width: int, device: torch.device) -> Tensor:
    """Return (width,) float64: sqrt(2) off the diagonal of a packed symmetric (side, side) matrix, else 1.

    The entry of a matrix off its diagonal occurs twice in the matrix and once in the packing: with this unit the L2
    norm of the packing is the Frobenius norm, and the integers stay products of integer factors.
    """
    row, column = torch.triu_indices(side, side, device=device)
    units = torch.ones(width, dtype=torch.float64, device=device)
    units[: len(row)] = torch.where(row == column, 1.0, math.sqrt(2.0)).double()
    return units


@dataclass(frozen=True)
class PrivateSum:
    """A sum after the clip and the noise.

    Attributes:
        value: float32, the query's shape.
        noise_std: standard deviation of the noise on each entry; 0 without noise.
    """

    value: Tensor
    noise_std: float

    def pooled(self, other: "PrivateSum") -> "PrivateSum":
        """Return the mean of two private sums of the same query, each weighted by the inverse of its variance."""
        mine, theirs = self.noise_std**2, other.noise_std**2
        part = theirs / (mine + theirs) if mine + theirs else 0.5
        value = part * self.value + (1 - part) * other.value
        return PrivateSum(value, math.sqrt(part**2 * mine + (1 - part) ** 2 * theirs))


class Contribution(ABC):
    """The parts of B users in one sum. Rows of weight zero are skipped, never multiplied (NaN * 0 is NaN).

    A row depends on that user alone: who else is in the batch changes none of its bits (see `fedrec.rowwise`).
    """

    packed = 0
    """As in `SumQuery`."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The query's shape."""

    @abstractmethod
    def norms(self) -> Tensor:
        """Compute the L2 norm of each user's whole contribution, (B,) float64; NaN or infinite where a part is."""

    def unit_weights(self) -> Tensor:
        """Return a weight of one for each user, (B,) float64; override it where B is known without the norms."""
        return torch.ones_like(self.norms())

    @abstractmethod
    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        """Add each user's integers for weights[u] * contribution[u] to `total`, int64 of the query's shape, in place.

        weights: (B,) float64. Each user's integers follow from that user's row and weight alone. With units, their
        norm in steps is at most that of the weighted contribution: see `fedrec.privacy.fixed_point`.
        """

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Compute the sum over users of weights[u] * contribution[u], float32, the query's shape.

        It uses `add_to` on a lattice that fits the longest of these: for attacks, and for slow oracles.

        Args:
            weights: (B,).
        """
        weights = weights.double()
        used = weights != 0
        longest = float((self.norms()[used] * weights[used]).max()) if bool(used.any()) else 0.0
        lattice = Lattice.with_bits(longest if 0 < longest < math.inf else 1.0, _VIEW_BITS)
        total = torch.zeros(self.shape, dtype=torch.int64, device=weights.device)
        self.add_to(total, weights, lattice)
        value = lattice.values(total)
        return (value * packed_units(self.packed, self.shape[-1], value.device) if self.packed else value).float()

    @abstractmethod
    def dense(self, row: int) -> Tensor:
        """Return one user's contribution, the query's shape (for a device that masks it, and for slow oracles)."""


_VIEW_BITS = 46


class FewRows(Contribution):
    """Contributions of some users of a batch as dense rows; the others add zeros.

    Args:
        values: their rows, (n, *shape).
        users: their positions in the batch, ascending, (n,) int64.
        batch: users of the batch.
    """

    def __init__(self, values: Tensor, users: Tensor, batch: int) -> None:
        self.few, self.users, self.batch = DenseContribution(values), users, batch

    @property
    def shape(self) -> tuple[int, ...]:
        return self.few.shape

    def norms(self) -> Tensor:
        norms = torch.zeros(self.batch, dtype=torch.float64, device=self.users.device)
        return norms.index_copy_(0, self.users, self.few.norms())

    def unit_weights(self) -> Tensor:
        return torch.ones(self.batch, dtype=torch.float64, device=self.users.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        self.few.add_to(total, weights[self.users], lattice)

    def dense(self, row: int) -> Tensor:
        place = (self.users == row).nonzero()[:, 0]
        return self.few.dense(int(place)) if len(place) else self.few.values.new_zeros(self.shape).float()


class DenseContribution(Contribution):
    """Contributions as one dense row per user.

    Values are at least float32: in half precision the weights would be rounded by more than the clip's margin.

    Args:
        values: (B, *shape).
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values if values.dtype == torch.float64 else values.float()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    def norms(self) -> Tensor:
        norms: Tensor = self.values.double().flatten(1).norm(dim=1)
        return norms

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.values), dtype=torch.float64, device=self.values.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        add_rows(total, self.values, weights, lattice)

    def dense(self, row: int) -> Tensor:
        return self.values[row].float()


def add_rows(total: Tensor, values: Tensor, weights: Tensor, lattice: Lattice) -> None:
    """Add dense rows (B, *shape) as `Contribution.add_to`, some at a time."""
    users = (weights != 0).nonzero()[:, 0]
    most = max(1, _NUMBERS_AT_ONCE // max(1, values[0].numel() if len(values) else 1))
    for some in torch.split(users, most):
        weighted = values[some].double() * weights[some].double().view(-1, *[1] * (values.ndim - 1))
        add_whole(total, lattice.whole(weighted).sum(0))


_NUMBERS_AT_ONCE = 1 << 22


class SparseContribution(Contribution):
    """Contributions as coordinates: user `owners[n]` adds `values[n]` at flat position `positions[n]`.

    A position may occur at most once per user (the norm relies on it). The release has dense support all the
    same: noise goes on every entry of the sum, so which entries a user touched is not shown.
    """

    def __init__(self, owners: Tensor, positions: Tensor, values: Tensor, users: int, shape: tuple[int, ...]) -> None:
        self.owners, self.positions, self.values, self.users = owners, positions, values, users
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def norms(self) -> Tensor:
        squares = torch.zeros(self.users, dtype=torch.float64, device=self.values.device)
        return squares.index_add_(0, self.owners, self.values.double() ** 2).sqrt()

    def unit_weights(self) -> Tensor:
        return torch.ones(self.users, dtype=torch.float64, device=self.values.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        weight = weights.double()[self.owners]
        used = weight != 0
        part = torch.zeros(total.numel(), dtype=torch.float64, device=total.device)
        part.index_add_(0, self.positions[used], lattice.whole(weight[used] * self.values[used]))
        add_whole(total, part.view(total.shape))

    def dense(self, row: int) -> Tensor:
        mine = self.owners == row
        total = torch.zeros(math.prod(self.shape), dtype=torch.float32, device=self.values.device)
        return total.index_add_(0, self.positions[mine], self.values[mine].float()).view(self.shape)


class PaddedContribution(Contribution):
    """Contributions to the first entries of a longer sum. The other entries get nothing but noise.

    Args:
        inner: contributions (n,), unpacked.
        size: entries of the sum, n or more.
    """

    def __init__(self, inner: Contribution, size: int) -> None:
        self.inner, self.size = inner, size

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    def norms(self) -> Tensor:
        return self.inner.norms()

    def unit_weights(self) -> Tensor:
        return self.inner.unit_weights()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        self.inner.add_to(total[: self.inner.shape[0]], weights, lattice)

    def dense(self, row: int) -> Tensor:
        mine = self.inner.dense(row)
        return torch.cat([mine, mine.new_zeros(self.size - len(mine))])
