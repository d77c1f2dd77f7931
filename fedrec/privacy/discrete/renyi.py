"""Renyi DP of the Skellam mechanism at whole orders, composed and turned into epsilon; `math` alone, for devices.

Source: arXiv 2110.04995, Theorem 3.5. A query whose integer vector may change by D2 in L2 and by D1 in L1, released
with Skellam noise of variance v on every entry, has at every WHOLE order a > 1

    RDP(a) <= a D2^2 / (2 v) + min( ((2 a - 1) D2^2 + 6 D1) / (4 v^2), 3 D1 / (2 v) )

The proof is for whole orders, so no other is used. RDP adds up over queries and rounds, chosen adaptively too. The way
to epsilon is Proposition 12 of Canonne, Kamath & Steinke (2020).

Unlike a Gaussian, the mechanism has no proven privacy loss distribution here: epsilon by Renyi DP is the only one.
Where users are sampled, nothing is subtracted: the server of a secure sum knows the cohort.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ORDERS = (*range(2, 65), *(2**k + j * 2**k // 16 for k in range(6, 20) for j in range(1, 17)))
"""Whole orders, ascending: one in sixteen above 64."""


@dataclass(frozen=True, order=True)
class SkellamEvent:
    """`count` releases of integer vectors with Skellam noise.

    Attributes:
        variance: of the noise on each entry that the adversary does not know.
        squared: D2^2, the largest squared L2 norm of one user's integer vector.
        absolute: D1, the largest L1 norm of it.
        count: number of releases, at least 1.

    Raises: ValueError for values without a meaning.
    """

    variance: float
    squared: int
    absolute: int
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.variance < math.inf:
            raise ValueError(f"event: the variance must be a positive number, got {self.variance}")
        if not 0 < self.squared < (self.absolute + 1) ** 2 or not self.absolute <= self.squared:  # bounds, rounded down
            raise ValueError(f"event: no integer vector has D2^2 = {self.squared} and D1 = {self.absolute}")
        if self.count < 1:
            raise ValueError(f"event: count must be at least 1, got {self.count}")

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise in units of the L2 sensitivity."""
        return math.sqrt(self.variance / self.squared)

    def rdp(self, order: int) -> float:
        """Bound the Renyi divergence of all `count` releases at a whole order above 1."""
        v, squared, absolute = self.variance, self.squared, self.absolute
        extra = min(((2 * order - 1) * squared + 6 * absolute) / (4 * v * v), 3 * absolute / (2 * v))
        return self.count * (order * squared / (2 * v) + extra)


def largest_absolute(squared: int, dimension: int) -> int:
    """Return the largest L1 norm of an integer vector with a squared L2 norm of at most `squared`.

    It is at most sqrt(dimension) D2, and at most D2^2, since |x| <= x^2 for whole numbers.
    """
    return min(squared, math.isqrt(squared * dimension))


def merged(events: Iterable[SkellamEvent]) -> tuple[SkellamEvent, ...]:
    """Return the same events, equal ones counted, sorted."""
    counts: Counter[tuple[float, int, int]] = Counter()
    for event in events:
        counts[event.variance, event.squared, event.absolute] += event.count
    return tuple(SkellamEvent(*kind, count) for kind, count in sorted(counts.items()))


def epsilon(events: Iterable[SkellamEvent], delta: float) -> float:
    """Bound epsilon of all releases together by Renyi DP; 0 for no events.

    Args:
        events: the releases.
        delta: above 0 and below 1.
    """
    kinds = merged(events)
    if not kinds:
        return 0.0
    return epsilon_of(lambda order: math.fsum(event.rdp(order) for event in kinds), delta)


def gaussian_epsilon(mu_squared: float, delta: float) -> float:
    """Bound epsilon of Gaussian releases by Renyi DP at the same orders, for comparison.

    Args:
        mu_squared: sum of the squared signal-to-noise of the releases.
        delta: above 0 and below 1.
    """
    return epsilon_of(lambda order: order * mu_squared / 2, delta) if mu_squared else 0.0


def epsilon_of(rdp: Callable[[int], float], delta: float) -> float:
    """Return the least epsilon over `ORDERS` that a Renyi curve gives; never below 0.

    Args:
        rdp: the Renyi divergence at a whole order.
        delta: above 0 and below 1.
    """
    best: float = min(rdp(order) + conversion(order, delta) for order in ORDERS)
    return max(0.0, best)


def conversion(order: int, delta: float) -> float:
    """Return epsilon at `delta` less the Renyi divergence at an order above 1 (Canonne et al. 2020, proposition 12)."""
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
