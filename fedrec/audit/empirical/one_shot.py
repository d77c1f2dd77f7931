"""The one-shot ESTIMATE of epsilon (Andrew et al. 2024): no bound, neither from below nor from above.

Canaries are random directions that all take part in one run. The releases are correlated with each of them. Without a
contribution, the correlation of a direction is nearly normal with a known spread. So two normal distributions describe
"in" and "out", and the estimate is the epsilon between these two at the given delta. It needs no second run and no data
of the other users. It can err on both sides: the fit describes the middle of a distribution, but its tails decide on
epsilon at a small delta.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

LARGEST = 1000.0
"""Epsilons above this are returned as infinity."""


def normal_pair_epsilon(out: tuple[float, float], included: tuple[float, float], delta: float) -> float:
    """Compute epsilon at `delta` between two normal distributions (mean, standard deviation), the worse direction."""
    return max(_epsilon(out, included, delta), _epsilon(included, out, delta))


def one_shot_estimate(correlations: np.ndarray, spread: float, delta: float) -> float:
    """Estimate epsilon.

    Args:
        correlations: (canaries,) of canaries that took part.
        spread: standard deviation of the correlation of a direction without a contribution (1 / sqrt(d) for a cosine
            in d dimensions).
        delta: the delta of epsilon.
    """
    if len(correlations) < 2:
        raise ValueError(f"a spread needs at least two canaries, got {len(correlations)}")
    fitted = float(correlations.mean()), float(correlations.std(ddof=1))
    return normal_pair_epsilon((0.0, spread), fitted, delta)


def _epsilon(one: tuple[float, float], other: tuple[float, float], delta: float) -> float:
    def excess(epsilon: float) -> float:
        return _hockey_stick(one, other, epsilon) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > LARGEST:
            return math.inf
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def _hockey_stick(one: tuple[float, float], other: tuple[float, float], epsilon: float) -> float:
    """Compute the largest P_one(S) - e^epsilon P_other(S) over all sets S: that of a density ratio above e^epsilon."""
    (m, s), (n, t) = one, other
    # log ratio - epsilon = a x^2 + b x + c
    a = 0.5 / t**2 - 0.5 / s**2
    b = m / s**2 - n / t**2
    c = 0.5 * (n / t) ** 2 - 0.5 * (m / s) ** 2 + math.log(t / s) - epsilon
    if abs(a) < 1e-12 / s**2:
        if b == 0:
            return 0.0 if c <= 0 else -math.expm1(epsilon)
        root = -c / b
        return _mass(one, other, epsilon, root, math.inf) if b > 0 else _mass(one, other, epsilon, -math.inf, root)
    under = b * b - 4 * a * c
    if under <= 0:
        return _mass(one, other, epsilon, -math.inf, math.inf) if a > 0 else 0.0
    low, high = sorted(((-b - math.sqrt(under)) / (2 * a), (-b + math.sqrt(under)) / (2 * a)))
    if a < 0:
        return _mass(one, other, epsilon, low, high)
    return _mass(one, other, epsilon, -math.inf, low) + _mass(one, other, epsilon, high, math.inf)


def _mass(one: tuple[float, float], other: tuple[float, float], epsilon: float, low: float, high: float) -> float:
    def chance(normal: tuple[float, float]) -> float:
        mean, std = normal
        if low > mean:  # the difference of two upper tails keeps its digits
            return float(norm.sf((low - mean) / std) - norm.sf((high - mean) / std))
        return float(norm.cdf((high - mean) / std) - norm.cdf((low - mean) / std))

    return chance(one) - math.exp(epsilon) * chance(other) if epsilon < 700 else -1.0
