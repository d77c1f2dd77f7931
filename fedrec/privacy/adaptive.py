"""Adaptive clipping: settings, the factor on a clip, and contributions in units of it.

Source: Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially Private Learning with Adaptive Clipping". A query
keeps its fixed clip norm c. What adapts is a public factor f: the clip of a round is C = c f, and each user adds its
contribution divided by f. So clip, noise multiplier, lattice and price never change, whatever the factor is.

Each adapted round also asks whether a user's norm is within the clip, as one more sum, with noise and price of its own:

    contribution of a user      1[norm <= C] - quantile; 0 where the norm is 0, and from users who do not take part
    bound of it                 max(quantile, 1 - quantile)
    step                        f <- f exp(-rate (b - quantile)),  b = noisy sum / expected cohort + quantile, in [0, 1]

The denominator is the public expected cohort, so b depends on how many take part. If n of m expected users add
something, and a part q of them is within the clip, then E[b] - quantile = (n / m) (q - quantile). So dropout slows the
step, and does not move the point where it is zero. Poisson sampling has E[n] = m, and adds no bias. Cutting b to [0, 1]
draws its mean inwards where the noise is large, and the clip's margin of 2^-20 makes each bit that much smaller.

Different from the paper: it subtracts 1/2 from each user's bit instead of the quantile. Missing users then move that
point to 1/2 + (quantile - 1/2) m / n. Users without any contribution count in the paper; here their bit is 0, so that a
user without events adds zeros to every sum.
"""

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, DenseContribution
from fedrec.settings import Settings

FEWEST, MOST = 1e-6, 1e6
"""Bounds of the settings `smallest` and `largest`."""
TRAVEL = 10.0
"""By how much a clip can grow, and shrink, over a run whose rate is left open."""
LEAST_RATE, MOST_RATE = 0.2, 10.0
"""Bounds of a rate that is left open: the paper's choice for long runs, and the largest that may be set."""


class ClippingConfig(Settings):
    """The [privacy.clipping] table of a scenario."""

    adaptive: bool = False
    """Move the clips of sums that are asked in several rounds towards a quantile of users' norms, by private sums."""
    quantile: float = Field(default=0.5, gt=0, lt=1)
    """Part of the users whose contributions stay as they are."""
    rate: float | None = Field(default=None, gt=0, le=MOST_RATE)
    """Step of the logarithm of a clip, for each unit between the measured part of users and `quantile`; by default,
    what lets a clip grow or shrink by 10 over the run, and at least 0.2."""
    share: float | None = Field(default=None, gt=0, lt=1)
    """Part of the budget for measuring that; by default, at most 0.05, what leaves it a standard deviation of 0.05."""
    smallest: float = Field(default=0.01, ge=FEWEST, le=1)
    """Smallest clip, in units of the algorithm's own clip norm."""
    largest: float = Field(default=100.0, ge=1, le=MOST)
    """Largest clip, in the same units. A node's policy on the largest clip counts this one."""

    @model_validator(mode="after")
    def _used(self) -> "ClippingConfig":
        idle = sorted(self.model_fields_set - {"adaptive"})
        if not self.adaptive and any(getattr(self, name) != type(self).model_fields[name].default for name in idle):
            raise ValueError(f"privacy.clipping.{idle[0]} is for privacy.clipping.adaptive = true; leave it out")
        return self

    def moving(self, rounds: int) -> "ClippingConfig":
        """Return the same settings with a rate: where it is left open, one that lets a clip travel by `TRAVEL`.

        A round moves the logarithm of a clip up by at most rate x quantile, and down by rate x (1 - quantile). So a
        clip that is too small for everybody, or too large, is `TRAVEL` times as large, or as small, after the last
        round. With 2 rounds and quantiles near 0 or 1 the largest rate is less than that.

        Args:
            rounds: in which the clips adapt, at least 1.
        """
        if self.rate is not None:
            return self
        least_step = min(self.quantile, 1 - self.quantile)
        rate = min(MOST_RATE, max(LEAST_RATE, math.log(TRAVEL) / (rounds * least_step)))
        return self.model_copy(update={"rate": rate})

    def next_factor(self, factor: float, total: float, expected_cohort: float) -> float:
        """Return the factor of the next round.

        Args:
            factor: of this round.
            total: the noisy sum of the users' bits less the quantile.
            expected_cohort: the public number of users expected in the round, never a count.
        """
        if self.rate is None:
            raise ValueError("clips without a rate; `moving` gives one")
        within = min(1.0, max(0.0, total / expected_cohort + self.quantile))
        moved = factor * math.exp(-self.rate * (within - self.quantile))
        return min(self.largest, max(self.smallest, moved))

    def fault(self, factors: Tensor | None, queries: int) -> str:
        """Return what is wrong with factors that a server sent; "" where nothing is.

        Args:
            factors: (queries,) float64; anything from a server that lies.
            queries: how many clips adapt.
        """
        if factors is None or factors.dtype != torch.float64 or tuple(factors.shape) != (queries,):
            return f"no clip factors of {queries} sum(s)"
        if not bool(((factors >= self.smallest) & (factors <= self.largest)).all()):  # NaN is neither
            return f"a clip factor outside {self.smallest:g} to {self.largest:g}, the range that the run states"
        return ""

    @property
    def bound(self) -> float:
        """The largest size of a user's bit less the quantile."""
        return max(self.quantile, 1 - self.quantile)

    def bits(self, norms: Tensor, clip_norm: float) -> Tensor:
        """Return each user's part of the quantile query, (B,) float64: see the module.

        Args:
            norms: (B,) float64, of scaled contributions. NaN counts as above the clip.
            clip_norm: of the query.
        """
        return torch.where(norms == 0, 0.0, (norms <= clip_norm).double() - self.quantile)


class ScaledContribution(Contribution):
    """`inner` divided by a factor: its norm in units of the factor, and integers that follow from the scaled weights.

    Weights that are no normal float32 after the division become zero, as `fedrec.privacy.clipping` makes them: the user
    is left out.

    Args:
        inner: whose norms are true.
        factor: public, finite and above 0.
    """

    def __init__(self, inner: Contribution, factor: float) -> None:
        self._scaled, self.factor, self.packed = inner, factor, inner.packed
        self._norms: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._scaled.shape

    def norms(self) -> Tensor:
        if self._norms is None:  # asked for the quantile and for the clip; some cost a gradient
            self._norms = self._scaled.norms().double() / self.factor
        return self._norms

    def unit_weights(self) -> Tensor:
        return self._scaled.unit_weights()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        scaled = weights.double() / self.factor
        self._scaled.add_to(total, torch.where(scaled.abs() >= torch.finfo(torch.float32).tiny, scaled, 0.0), lattice)

    def dense(self, row: int) -> Tensor:
        return self._scaled.dense(row) / self.factor


def scaled(contribution: Contribution, factor: float) -> Contribution:
    """Return `contribution` divided by `factor`: dense rows stay dense rows, which some encodings add faster."""
    if type(contribution) is DenseContribution:
        return contribution if factor == 1 else DenseContribution(contribution.values / factor)
    return ScaledContribution(contribution, factor)
