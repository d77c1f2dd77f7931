"""Renyi DP of Skellam releases in which each user's own secret coin decides between its contribution and zeros.

Everybody answers every round and adds noise. With probability q, drawn anew each round and kept on the device, the
answer holds the user's integers x, else zeros. All queries of a round share the coin, so a round is ONE event.

**Theorem.** Let a round without coins have Renyi divergence at most e(k) at every whole order k = 2..a, for users who
are added or removed. With coins, it is at a, in both directions, at most

    log( sum over k = 0..a of C(a, k) (1 - q)^(a - k) q^k E_k ) / (a - 1),   E_0 = E_1 = 1,  E_k = exp((k - 1) e(k)).

*One user more.* Fix the others' coins, contributions and the noise that the adversary knows: all are independent of
this user's coin. Without the user the adversary meets P, the law of s + v with v the unknown noise; with it
(1 - q) P + q Q, where Q is the law of s + x + v. With L = dQ/dP the a-th moment is E_P[(1 - q + q L)^a]. The binomial
series gives the terms above, as E_P[L^k] = exp((k - 1) D_k(Q, P)) <= E_k. Averaging over what was fixed, and over the
rounding of x, keeps the bound: exp((a - 1) D_a) is jointly convex. Reading a sum modulo 2^b is post-processing.

*One user less.* We show D_a(P, (1 - q) P + q Q) <= D_a((1 - q) P + q Q, P). Skellam noise is symmetric, so the
reflection z -> 2 s + x - z swaps P and Q, and E_P[g(L)] = E_P[L g(1 / L)] for every g. Hence twice the difference of
the moments is E_P[h(L) + L h(1 / L)] with h(l) = u^a - u^(1 - a) and u = 1 - q + q l. It is enough that
h(l) + l h(1 / l) >= 0 for l > 1 (the case l < 1 is the same divided by l). Put w = 1 - q + q / l, A = log u and
B = -log w; both are positive, and A >= B since u w = 1 + q (1 - q) (l - 1)^2 / l >= 1. With c = a - 1/2,

    h(l) + l h(1 / l) = 2 sqrt(u) sinh(c A) - 2 l sqrt(w) sinh(c B).

At c = 1/2 this is u - 1 + l (w - 1) = 0, and sinh(c A) / sinh(c B) does not fall in c where A >= B. So it is at least 0
for every c >= 1/2.

The series is that of arXiv 1908.10530 (Gaussian) and of Zhu & Wang 2019 (ICML, Poisson subsampling). Their tighter
bound has conditions and their general one a factor 3; the symmetry above needs neither. It needs e(k) at whole orders
alone, which is what is proven for Skellam noise (`fedrec.privacy.discrete.renyi`). Rounds add up, chosen adaptively
too, since each draws new coins.

NumPy and `math` alone, for devices.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np

from fedrec.privacy.discrete.renyi import SkellamEvent, merged

LARGEST_ORDER = 1024
ORDERS = (*range(2, 512), *range(512, LARGEST_ORDER + 1, 4))
"""Whole orders, ascending: one in 4 from 512 on. Divergences rise steeply there, so that a coarse net costs epsilon."""
_MARGIN = 1e-9
"""Relative, on every divergence: above all rounding errors here."""

Round = tuple[SkellamEvent, ...]
"""The releases of one round, which share one coin a user."""


def renyi(events: Iterable[SkellamEvent], sampling: float, orders: tuple[int, ...] = ORDERS) -> np.ndarray:
    """Bound the Renyi divergence of one round with coins, (len(orders),).

    Args:
        events: the releases of the round, as if every user contributed.
        sampling: probability of each user's coin, in (0, 1).
        orders: whole numbers from 2 to `LARGEST_ORDER`.
    """
    return _renyi(merged(events), sampling, orders)


@lru_cache(maxsize=256)
def _renyi(events: Round, sampling: float, orders: tuple[int, ...]) -> np.ndarray:
    known = [math.fsum(event.rdp(order) for event in events) for order in range(2, max(orders) + 1)]
    found = amplified(np.array([0.0, 0.0, *known]), sampling, orders)
    found.setflags(write=False)
    return found


def amplified(divergences: np.ndarray, sampling: float, orders: tuple[int, ...] = ORDERS) -> np.ndarray:
    """Bound the Renyi divergence of a symmetric mechanism with coins, (len(orders),); see the theorem.

    Args:
        divergences: (largest order + 1,) without coins, at order k in place k; 0 at 0 and 1.
        sampling: probability of each user's coin, in (0, 1).
        orders: whole numbers from 2 on.
    """
    moments = np.arange(-1, len(divergences) - 1) * divergences  # (k - 1) e(k)
    with np.errstate(divide="ignore"):
        above = moments + np.log(-np.expm1(-moments))  # log(E_k - 1): the weights sum to 1, so that 1 is added later
    terms = _log_weights(sampling, orders, len(divergences)) + above
    largest = terms.max(axis=1, keepdims=True)
    largest[np.isneginf(largest)] = 0.0
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(terms - largest).sum(axis=1)) + largest[:, 0]
    found: np.ndarray = np.logaddexp(0.0, total) / (np.array(orders) - 1) * (1 + _MARGIN)
    return found


@lru_cache(maxsize=8)
def _log_weights(sampling: float, orders: tuple[int, ...], places: int) -> np.ndarray:
    """Return log of C(a, k) (1 - q)^(a - k) q^k, (orders, places); minus infinity for k > a."""
    factorials = np.array([math.lgamma(k + 1) for k in range(places)])
    at, k = np.array(orders)[:, None], np.arange(places)[None, :]
    rest = np.maximum(at - k, 0)
    weights = factorials[at] - factorials[k] - factorials[rest] + k * math.log(sampling) + rest * math.log1p(-sampling)
    return np.where(k <= at, weights, -math.inf)


def epsilon(rounds: Iterable[Iterable[SkellamEvent]], sampling: float, delta: float) -> float:
    """Bound epsilon of all rounds together; 0 where nothing is released.

    Args:
        rounds: the releases of each round, as if every user contributed.
        sampling: probability of each user's coin, in (0, 1).
        delta: above 0 and below 1.
    """
    kinds = Counter(tuple(events) for events in rounds)
    return _composed([(renyi(events, sampling), count) for events, count in kinds.items() if events], delta)


def gaussian_epsilon(squares: Iterable[float], sampling: float, delta: float) -> float:
    """Bound epsilon of Gaussian rounds with coins at the same orders, for comparison.

    Args:
        squares: squared signal-to-noise of each round, as if every user contributed.
        sampling: probability of each user's coin, in (0, 1).
        delta: above 0 and below 1.
    """
    orders = np.arange(LARGEST_ORDER + 1)
    kinds = Counter(square for square in squares if square)
    curves = [(amplified(np.where(orders > 1, orders, 0) * square / 2, sampling), n) for square, n in kinds.items()]
    return _composed(curves, delta)


def least_factor(shares: Sequence[float], sampling: float, target: float, delta: float) -> float:
    """Find the least t for which Gaussian rounds of squared signal-to-noise share / t^2 keep epsilon at the target.

    Args:
        shares: of each round.
        sampling: probability of each user's coin, in (0, 1).
        target: epsilon.
        delta: above 0 and below 1.

    Raises: ValueError where no noise reaches the target at orders up to `LARGEST_ORDER`.
    """

    def within(factor: float) -> bool:
        return gaussian_epsilon((share / factor**2 for share in shares), sampling, delta) <= target

    return least(within)


def least(within: Callable[[float], bool]) -> float:
    """Find the least factor that is within, to a relative 1e-4. Raises: ValueError where 2^40 is not."""
    low = high = 1.0
    while within(low):
        low /= 2
    while not within(high):
        low, high = high, high * 2
        if high > 2.0**40:
            raise ValueError("no noise reaches the target")
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


def _composed(curves: Sequence[tuple[np.ndarray, int]], delta: float) -> float:
    if not curves:
        return 0.0
    orders = np.array(ORDERS, dtype=float)
    gain = np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    total = sum((count * curve for curve, count in curves), np.zeros(len(ORDERS)))
    return max(0.0, float((total + gain).min()))
