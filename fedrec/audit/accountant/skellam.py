"""Recomputed epsilon of Skellam noise, from nothing but the events in a ledger, by code that training does not use.

The bound is Theorem 3.5 of "The Skellam Mechanism for Differentially Private Federated Learning" (arXiv 2110.04995):
for an integer vector with D2^2 = `squared` and D1 = `absolute`, noise of variance v on every entry, and a whole order
a > 1: RDP(a) <= a D2^2 / (2 v) + min(((2 a - 1) D2^2 + 6 D1) / (4 v^2), 3 D1 / (2 v)). Orders add up over releases;
Proposition 12 of Canonne, Kamath & Steinke (2020) gives epsilon. Every whole order up to 1,024 is tried, and 600 above.

Hidden participation: each user's own coin, of probability q and new in each round, decides between its integers and
zeros. With K ~ Binomial(a, q) and e(k) the divergence of the whole round as if all contributed, e(0) = e(1) = 0,

    RDP(a) <= log E[exp((K - 1) e(K))] / (a - 1)

since that is the a-th moment of (1 - q) + q L, L the likelihood ratio of one user more; for noise that is symmetric,
as Skellam's is, the other direction is smaller (proof: `fedrec.privacy.discrete.hidden`). Orders up to 1,024 count.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from fedrec.audit.accountant.recompute import Curve

Release = tuple[float, int, int, int]
"""Variance of the noise, D2^2, D1, count."""

ORDERS = np.unique(np.concatenate([np.arange(2, 1025), np.geomspace(1025, 2**21, 600).astype(np.int64)])).astype(float)
HIDDEN_ORDERS = int(np.searchsorted(ORDERS, 1024, side="right"))
"""How many of `ORDERS`, the first ones, count with hidden participation."""
_PLACES = 64
"""Charges whose orders are added up at a time, so that memory stays bounded."""


def renyi(releases: Sequence[Release]) -> np.ndarray:
    """Compute the Renyi divergence of all releases together at each of `ORDERS`."""
    total = np.zeros(len(ORDERS))
    for variance, squared, absolute, count in releases:
        first = ((2 * ORDERS - 1) * squared + 6.0 * absolute) / (4 * variance**2)
        total += count * (ORDERS * squared / (2 * variance) + np.minimum(first, 3.0 * absolute / (2 * variance)))
    return total


def with_coins(divergences: np.ndarray, sampling: float) -> np.ndarray:
    """Compute the Renyi divergence of one round with hidden participation at each of `ORDERS`; infinite at high ones.

    Args:
        divergences: (orders,) as if all users contributed.
        sampling: probability of each user's coin, in (0, 1).
    """
    whole = np.concatenate([[0.0, 0.0], divergences[:HIDDEN_ORDERS]])
    moments = logsumexp(_log_binomial(sampling) + np.arange(-1, HIDDEN_ORDERS + 1) * whole, axis=1)
    found = np.full(len(ORDERS), np.inf)
    found[:HIDDEN_ORDERS] = np.maximum(moments, 0.0) / (ORDERS[:HIDDEN_ORDERS] - 1)
    return found


@lru_cache(maxsize=2)
def _log_binomial(sampling: float) -> np.ndarray:
    """Return the logarithm of P(K = k) for K ~ Binomial(a, q), (HIDDEN_ORDERS, HIDDEN_ORDERS + 2): a by k."""
    places = np.arange(HIDDEN_ORDERS + 2)
    found: np.ndarray = binom.logpmf(places[None, :], places[2:, None], sampling)
    return found


def epsilon(divergences: np.ndarray, delta: float) -> np.ndarray:
    """Turn divergences (..., orders) into epsilon (...), never below 0."""
    gain = np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    found: np.ndarray = np.maximum((divergences + gain).min(axis=-1), 0.0)
    return found


def curve(rounds: Sequence[Sequence[Release]], delta: float, sampling: float | None = None) -> Curve:
    """Compute cumulative epsilon after each round.

    Args:
        rounds: the releases of each.
        delta: above 0 and below 1.
        sampling: probability of each user's coin, with hidden participation; None where it is known who contributes.
    """
    found, total, begun = [], np.zeros(len(ORDERS)), False
    known: dict[tuple[Release, ...], np.ndarray] = {}
    for releases in rounds:
        key = tuple(releases)
        if key not in known:
            if len(known) >= _PLACES:
                known.clear()
            whole = renyi(key)
            known[key] = whole if sampling is None or not key else with_coins(whole, sampling)
        total = total + known[key]
        begun = begun or bool(releases)
        found.append(float(epsilon(total, delta)) if begun else 0.0)
    return Curve(np.arange(1, len(rounds) + 1), np.array(found), 0.0)
