"""Privacy filters: a bound for several runs together when each is planned after seeing earlier outputs.

Composing all events at the end, by privacy loss distributions or any other accountant, presumes that the parameters
were fixed ahead. Where they may follow from earlier outputs, a bound needs a rule that is fixed before the first
release and decides when to stop: a filter. Stopping when the composed PLD (the trade-off curve) crosses a target is
NOT a filter once sampled Gaussians occur (Tran et al. 2026, arXiv 2602.06756; arXiv 2602.15815), so there is none here.

| filter | keeps | proven by |
|---|---|---|
| `gdp` | sum of mu^2 = 1/z^2 at most mu(epsilon, delta)^2 | Smith & Thakurta 2022 (arXiv 2210.17520) |
| `renyi` | sum of RDP at ONE order at most what (epsilon, delta) allows | Feldman & Zrnic 2021 (arXiv 2008.11193) |

`gdp` loses nothing for plain Gaussians: it is the exact curve. It prices a sampled round as if everyone took part.
That is sound (leaving people out at random is post-processing of the plain release) and counts no amplification.
`renyi` counts it. Both hold for runs at the same time (Haney et al. 2023, arXiv 2309.05901).

A filter's sums are whole numbers of 1e-15 of its unit, costs rounded up and the limit down, so nothing is lost to
floating point. A sum is no epsilon: only the limit is one, (epsilon, delta), for everything that the filter let pass.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian, get_sigma_gaussian
from opacus.accountants.analysis import rdp

from fedrec.errors import PrivacyError, nearest
from fedrec.privacy.accounting import LARGEST_SAMPLED_ORDER, Event

GRID = 10**15
"""Parts of the filter's unit that sums are counted in."""
SAFETY = 1e-9
"""Relative margin for what is computed in floating point: larger than its error, smaller than matters."""

ROUNDING = 1e-12
"""Absolute margin for a logarithm near 0, a sum of at most a thousand terms."""

THEOREMS = {
    "gdp": "Smith & Thakurta 2022, Fully Adaptive Composition for Gaussian Differential Privacy",
    "renyi": "Feldman & Zrnic 2021, Individual Privacy Accounting via a Renyi Filter (one order, fixed ahead)",
}


class Allowance(Protocol):
    """A further limit of a run besides its own target: a budget that it shares with other runs."""

    def allow(self, events: Sequence[Event]) -> None:
        """Raises: BudgetExhausted when all these releases of the run together would pass it."""
        ...


_ORDERS_TO_TRY = [*range(2, 33), *(2**k + j * 2**k // 8 for k in range(5, 10) for j in range(8)), LARGEST_SAMPLED_ORDER]


@dataclass(frozen=True)
class Filter:
    """One filter for the cap (epsilon, delta).

    Attributes:
        name: a key of `THEOREMS`.
        epsilon: of the cap.
        delta: of the cap.
        order: of `renyi`; None for `gdp`.

    Raises: PrivacyError for a cap, name or order that gives no filter.
    """

    name: str
    epsilon: float
    delta: float
    order: int | None = None

    def __post_init__(self) -> None:
        if self.name not in THEOREMS:
            raise PrivacyError(f"filter '{self.name}': unknown.{nearest(self.name, THEOREMS)}")
        if not (0 < self.epsilon < math.inf):
            raise PrivacyError(f"the cap epsilon must be a positive number, got {self.epsilon}")
        if not 0 < self.delta < 1:
            raise PrivacyError(f"the cap delta must lie between 0 and 1, got {self.delta}")
        if self.name == "gdp" and self.order is not None:
            raise PrivacyError("a gdp filter has no order; leave it out, or choose the renyi filter")
        if self.name == "renyi":
            if self.order is None or not (2 <= self.order <= LARGEST_SAMPLED_ORDER and self.order == int(self.order)):
                raise PrivacyError(
                    f"a renyi filter needs a whole order from 2 to {LARGEST_SAMPLED_ORDER}, got {self.order}"
                )
            if self.limit <= 0:
                raise PrivacyError(
                    f"order {self.order} leaves nothing to spend at epsilon {self.epsilon:g}, delta {self.delta:g}; "
                    f"take {best_order(self.epsilon, self.delta)} or higher"
                )

    @classmethod
    def make(cls, name: str, epsilon: float, delta: float, order: int | None = None) -> "Filter":
        """Make a filter; its order is the best one for plain Gaussians where none is given."""
        if name == "renyi" and order is None and 0 < epsilon < math.inf and 0 < delta < 1:
            order = best_order(epsilon, delta)
        return cls(name, epsilon, delta, order)

    @property
    def unit(self) -> str:
        """The unit of the sums."""
        return "mu^2" if self.order is None else f"RDP at order {self.order}"

    @property
    def theorem(self) -> str:
        """The theorem that proves the cap."""
        return THEOREMS[self.name]

    @cached_property
    def limit(self) -> int:
        """The most that may be spent, in 1/GRID of the unit."""
        if self.order is not None:
            return math.floor(Fraction(_renyi_limit(self.epsilon, self.delta, self.order)) * GRID)
        mu = (1 - SAFETY) / float(get_sigma_gaussian(self.epsilon, self.delta))
        return math.floor(Fraction(mu) ** 2 * GRID)

    def cost(self, events: Iterable[Event]) -> int:
        """Compute the cost of releases, in 1/GRID of the unit, each kind of event rounded up."""
        counts: dict[tuple[float, float], int] = {}
        for event in events:
            key = (event.sampling, event.noise_multiplier)
            counts[key] = counts.get(key, 0) + event.count
        return sum(math.ceil(_one(q, z, self.order) * count * GRID) for (q, z), count in counts.items())

    def run_epsilon(self, amount: int) -> float:
        """Compute the largest epsilon, at the cap's delta, of a run with full participation that costs `amount`."""
        if amount <= 0:
            return 0.0
        mu_squared = amount / GRID if self.order is None else 2 * amount / GRID / self.order
        return float(get_epsilon_gaussian(1 / math.sqrt(mu_squared), self.delta)) * (1 - SAFETY)


def least_cap(name: str, events: Sequence[Event], delta: float) -> float:
    """Compute the least epsilon, at `delta`, of a filter with the best order that would allow these releases."""
    if not events:
        return 0.0
    if name == "gdp":
        mu = math.sqrt(sum(_one(1.0, event.noise_multiplier, None) * event.count for event in events))
        return float(get_epsilon_gaussian(1 / mu / (1 + SAFETY), delta)) * (1 + SAFETY)
    found = math.inf
    for order in _ORDERS_TO_TRY:
        spent = float(sum(_one(event.sampling, event.noise_multiplier, order) * event.count for event in events))
        epsilon = spent + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        found = min(found, epsilon * (1 + 2 * SAFETY))
    return max(0.0, found)


def best_order(epsilon: float, delta: float) -> int:
    """Find the order that leaves most room for plain Gaussians, whose RDP grows with the order.

    Whole orders alone: there the RDP of the sampled Gaussian is a sum of positive terms, which rounding cannot hurt.

    Raises: PrivacyError when no order leaves any.
    """
    best = max(range(2, LARGEST_SAMPLED_ORDER + 1), key=lambda order: _renyi_limit(epsilon, delta, order) / order)
    if _renyi_limit(epsilon, delta, best) <= 0:
        raise PrivacyError(
            f"no renyi filter keeps epsilon {epsilon:g} at delta {delta:g}; take the gdp filter or a higher cap"
        )
    return best


def _renyi_limit(epsilon: float, delta: float, order: int) -> float:
    """Compute the RDP that implies (epsilon, delta): Canonne et al. 2020, Proposition 12; Balle et al. 2020."""
    limit = epsilon - math.log1p(-1 / order) + (math.log(delta) + math.log(order)) / (order - 1)
    return limit - SAFETY * abs(limit)


@lru_cache(maxsize=4096)
def _one(sampling: float, noise_multiplier: float, order: int | None) -> Fraction:
    """Compute the cost of one release: exact for a plain Gaussian, rounded up for a sampled one."""
    plain = 1 / Fraction(noise_multiplier) ** 2
    if order is None:
        return plain
    whole = plain * Fraction(order) / 2
    if sampling == 1:
        return whole
    with np.errstate(all="ignore"):
        sampled = float(rdp.compute_rdp(q=sampling, noise_multiplier=noise_multiplier, steps=1, orders=[order])[0])
    if not math.isfinite(sampled):
        return whole
    # RDP = log(A) / (order - 1) with A >= 1: where A is near 1, the error of the logarithm is absolute, not relative.
    return min(whole, Fraction(max(sampled, 0.0) * (1 + SAFETY) + ROUNDING / (order - 1)))
