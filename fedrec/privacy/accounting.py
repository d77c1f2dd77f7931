"""The privacy cost of a run's releases: events are DESCRIBED here apart from being ANALYSED, by three accountants.

Adjacency is add-or-remove-one user. Sources: privacy loss distributions (Koskela et al. 2020; Doroshenko et al. 2022,
google/differential-privacy), Renyi DP of the sampled Gaussian (Mironov et al. 2019) and privacy random variables
(Gopi et al. 2021), both from Opacus, and the exact Gaussian curve (Balle & Wang 2018). Different here: plain Gaussian
releases are merged by the exact rule mu^2 = sum of 1/z^2 before they reach an accountant, the PLD grid follows the
events, and Opacus' Renyi orders, which end at 63 and floor epsilon near 0.1, go on upwards.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian, get_sigma_gaussian
from dp_accounting.pld import privacy_loss_distribution
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis import rdp

from fedrec.errors import PrivacyError

COARSEST_INTERVAL = 1e-3  # of the PLD grid
MOST_POINTS = 1e4  # of the PLD grid up to the mean loss of one event: a large epsilon makes the grid coarser
FINEST = 1e6  # points of the PLD grid up to the largest loss of one event: a rare sample at little noise has 1e14
SMALLEST_NOISE = 1e-3  # with less, epsilon is beyond 500,000 in one release, and beyond what the grids can hold
LARGEST_SAMPLED_ORDER = 1024  # the binomials of the sampled Gaussian overflow a float64 above
EXACT_ERROR = 1e-9  # relative, of the exact Gaussian curve, at any delta down to 1e-300
SMALLEST_SAMPLED_DELTA = 1e-12  # with sampling, the grid leaves out tails of about 1e-15
_ORDERS = [1 + x / 20 for x in range(1, 200)] + [float(2**k + j * 2**k // 8) for k in range(4, 20) for j in range(8)]
ORDERS = sorted({*_ORDERS, *map(float, range(11, 65))})


@dataclass(frozen=True, order=True)
class Event:
    """`count` releases of the Gaussian mechanism on a Poisson sample of the users.

    Attributes:
        sampling: probability of each user to take part, (0, 1].
        noise_multiplier: standard deviation of the noise in units of the L2 sensitivity, at least `SMALLEST_NOISE`.
        count: number of releases, at least 1.

    Raises: PrivacyError for values outside these ranges.
    """

    sampling: float
    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.sampling <= 1:
            raise PrivacyError(f"event: sampling probability must be in (0, 1], got {self.sampling}")
        if not SMALLEST_NOISE <= self.noise_multiplier < math.inf:
            raise PrivacyError(
                f"event: noise multiplier must be at least {SMALLEST_NOISE} and finite, got {self.noise_multiplier}"
            )
        if self.count < 1:
            raise PrivacyError(f"event: count must be at least 1, got {self.count}")


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return an equivalent, sorted, shorter list: equal events counted, plain Gaussians composed exactly into one."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[event.sampling, event.noise_multiplier] += event.count
    plain = [count / z**2 for (q, z), count in sorted(counts.items()) if q == 1]
    merged = [Event(q, z, count) for (q, z), count in sorted(counts.items()) if q < 1]
    return (*merged, Event(1.0, 1 / math.sqrt(math.fsum(plain)))) if plain else tuple(merged)


def interval_for(events: Iterable[Event]) -> float:
    """Choose a PLD grid a tenth as wide as a typical release's privacy loss: rounding adds about 0.1 % to epsilon.

    The grid is coarser where it would have too many points. Epsilon is then still bounded from above, less tightly.
    """
    merged = merge(events)
    if not merged:
        return COARSEST_INTERVAL
    total = sum(event.count for event in merged)
    spread = math.fsum(event.count * (event.sampling / event.noise_multiplier) ** 2 for event in merged)
    finest = max(_largest_loss(event) for event in merged) / FINEST
    return max(finest, min(_coarsest(merged), 0.1 * math.sqrt(spread / total)))


def _largest_loss(event: Event) -> float:
    """Return the privacy loss of one release at ten standard deviations."""
    plain = 0.5 / event.noise_multiplier**2 + 10 / event.noise_multiplier
    if event.sampling == 1:
        return plain
    return float(np.logaddexp(math.log(event.sampling) + plain, math.log1p(-event.sampling)))


def _coarsest(merged: tuple[Event, ...]) -> float:
    loss = max(0.5 / event.noise_multiplier**2 for event in merged)
    return max(COARSEST_INTERVAL, loss / MOST_POINTS)


def epsilon_pld(events: Iterable[Event], delta: float, interval: float | None = None) -> float:
    """Compute epsilon by privacy loss distributions, rounded up (pessimistic); 0 for no events.

    Args:
        events: the releases.
        delta: above 0 and below 1.
        interval: grid of the privacy loss; None for `interval_for(events)`.
    """
    merged = merge(events)
    return _pld(merged, delta, interval_for(merged) if interval is None else interval)


def deltas_pld(events: Iterable[Event], epsilons: Sequence[float]) -> tuple[float, ...]:
    """Compute the least delta for each epsilon by privacy loss distributions, rounded up; 0 for no events.

    Together they bound every attack: for each pair, TPR <= exp(epsilon) FPR + delta (Kairouz et al. 2015).

    Args:
        events: the releases.
        epsilons: ascending.
    """
    merged = merge(events)
    composed = _composed(merged, interval_for(merged))
    return (0.0,) * len(epsilons) if composed is None else tuple(composed.get_delta_for_epsilon(list(epsilons)))


@lru_cache(maxsize=4096)
def _pld(events: tuple[Event, ...], delta: float, interval: float) -> float:
    composed = _composed(events, interval)
    spent = 0.0 if composed is None else max(0.0, float(composed.get_epsilon_for_delta(delta)))
    if spent == math.inf and len(events) == 1 and events[0].sampling == 1:
        # The grid leaves out the tails below 1e-22; the exact curve, computed in logarithms, has them.
        mu = math.sqrt(events[0].count) / events[0].noise_multiplier
        return gaussian_epsilon(mu, delta) * (1 + EXACT_ERROR)
    return spent


def _composed(events: tuple[Event, ...], interval: float) -> privacy_loss_distribution.PrivacyLossDistribution | None:
    composed = None
    for event in events:
        one = _one_release(event.sampling, event.noise_multiplier, interval)
        many = one.self_compose(event.count) if event.count > 1 else one
        composed = many if composed is None else composed.compose(many)
    return composed


@lru_cache(maxsize=16)
def _one_release(
    sampling: float, noise_multiplier: float, interval: float
) -> privacy_loss_distribution.PrivacyLossDistribution:
    """Return the distribution of one release, cached: a run has few kinds, and one costs more than composing hundreds.

    A distribution takes at most `FINEST` x 16 bytes, usually a few hundred kilobytes.
    """
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier,
        pessimistic_estimate=True,
        value_discretization_interval=interval,
        sampling_prob=sampling,
        use_connect_dots=True,
    )


def epsilon_rdp(events: Iterable[Event], delta: float) -> float:
    """Bound epsilon by Renyi DP (Opacus' analysis, more orders), usually 5 to 15 % above PLD; 0 for no events."""
    return _rdp(merge(events), delta)


@lru_cache(maxsize=4096)
def _rdp(merged: tuple[Event, ...], delta: float) -> float:
    if not merged:
        return 0.0
    total = np.sum([_renyi(event.sampling, event.noise_multiplier) * event.count for event in merged], axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "optimal order is the largest": the bound holds at every order
        epsilon, _ = rdp.get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)
    return max(0.0, float(epsilon))


@lru_cache(maxsize=4096)
def _renyi(sampling: float, noise_multiplier: float) -> np.ndarray:
    if sampling == 1:
        return np.array(ORDERS) / (2 * noise_multiplier**2)
    usable = [order for order in ORDERS if order <= LARGEST_SAMPLED_ORDER]
    known = rdp.compute_rdp(q=sampling, noise_multiplier=noise_multiplier, steps=1, orders=usable)
    return np.concatenate([np.asarray(known, dtype=float), np.full(len(ORDERS) - len(usable), np.inf)])


def epsilon_prv(events: Iterable[Event], delta: float, error: float = 0.01) -> float:
    """Bound epsilon by Opacus' PRV accountant, with `error` added; 0 for no events. Slow for many events."""
    merged = merge(events)
    if not merged:
        return 0.0
    accountant = PRVAccountant()
    accountant.history = [(event.noise_multiplier, event.sampling, event.count) for event in merged]
    with np.errstate(all="ignore"):  # its density takes the logarithm of zero where the sampling is 1
        return max(0.0, float(accountant.get_epsilon(delta, eps_error=error)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Compute the exact epsilon of Gaussian releases with total signal-to-noise `mu` (full participation)."""
    return float(get_epsilon_gaussian(1 / mu, delta)) if mu > 0 else 0.0


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Compute the largest total signal-to-noise that (epsilon, delta) allows: the inverse of `gaussian_epsilon`."""
    return 1 / float(get_sigma_gaussian(epsilon, delta))


def calibrate(shares: Sequence[float], sampling: float, epsilon: float, delta: float) -> float:
    """Find the least factor t for which releases with noise multipliers t / sqrt(share) stay within epsilon (by PLD).

    The result is on the safe side: the PLD epsilon is at most 0.1 % below the target and never above.

    Args:
        shares: one a round, each the sum of its queries' shares.
        sampling: probability of each user to take part in a round, (0, 1].
        epsilon: target.
        delta: above 0 and below 1.

    Raises: PrivacyError when no usable noise reaches the target, and when users take part so rarely that delta would
        cover them without any.
    """
    taking_part = -math.expm1(len(shares) * math.log1p(-sampling)) if sampling < 1 else 1.0
    if taking_part <= delta:
        raise PrivacyError(
            f"privacy.sampling = {sampling:g} over {len(shares)} rounds: a user takes part with probability "
            f"{taking_part:.2g}, which delta {delta:g} would allow without any noise; raise sampling, or lower delta"
        )

    def log_excess(log_t: float, grid: Callable[[tuple[Event, ...]], float] = interval_for) -> float:
        events = merge(Event(sampling, math.exp(log_t) / math.sqrt(share)) for share in shares)
        spent = epsilon_pld(events, delta, grid(events))
        return min(max(math.log(spent / epsilon), -1.0), 3.0) if spent > 0 else -1.0

    # Sampling only helps, so the exact Gaussian is noise enough, but for the grid's rounding up. A hair more leaves
    # room for the rounding of a budget of the same epsilon (`filters.SAFETY`), which then lets the run pass.
    high = math.log(math.sqrt(math.fsum(shares)) / gaussian_mu(epsilon, delta))
    for step in (1e-8, *(1e-6 * 2**k for k in range(18))):
        if log_excess(high + step) <= 0:
            break
    else:
        if sampling < 1 and delta < SMALLEST_SAMPLED_DELTA:
            raise PrivacyError(
                f"privacy.delta = {delta:g}: with sampling, no accountant here can show less than "
                f"{SMALLEST_SAMPLED_DELTA:g}; take at least that, or privacy.sampling = 1"
            )
        raise PrivacyError(f"no noise found that keeps epsilon at {epsilon:g} with delta {delta:g}; raise epsilon")
    rough = _root(lambda log_t: log_excess(log_t, _coarsest), high + step)
    return math.exp(_root(log_excess, rough if log_excess(rough) <= 0 else high + step))


def _root(excess: Callable[[float], float], high: float) -> float:
    """Find x in about [root, root + 1e-3] with excess(x) <= 0, for a falling function with slope near -1 or steeper.

    Method: false position (Illinois), aimed at the middle of the band.

    Args:
        excess: the function.
        high: a point where the excess is at most 0.
    """
    tolerance = 1e-3
    at_high, low, side = excess(high), None, 0
    aim_low, aim_high = 0.0, at_high + tolerance / 2
    for _ in range(100):
        if at_high >= -tolerance:
            break
        x = high + 1.2 * at_high if low is None else (low * aim_high - high * aim_low) / (aim_high - aim_low)
        at_x = excess(x)
        if at_x <= 0:
            high, at_high, aim_high = x, at_x, at_x + tolerance / 2
            aim_low, side = (aim_low / 2 if side > 0 else aim_low), 1
        else:
            low, aim_low = x, at_x + tolerance / 2
            aim_high, side = (aim_high / 2 if side < 0 else aim_high), -1
    return high
