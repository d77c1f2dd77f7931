"""The exact curve of Gaussian releases on `math` alone, for devices; every epsilon is rounded up.

Source: Balle & Wang 2018, arXiv 1805.06530. `fedrec.privacy.accounting` has the same curve of another library.
"""

import math
from functools import lru_cache

MARGIN = 1e-9
"""Relative, on every epsilon: above all rounding errors here."""


@lru_cache(maxsize=65536)
def gaussian_epsilon(squared: float, delta: float) -> float:
    """Compute epsilon of Gaussian releases whose squared signal-to-noise adds up to `squared`, rounded up."""
    if squared <= 0:
        return 0.0
    if not _too_small(0.0, squared, delta):
        return 0.0
    low, high = 0.0, squared / 2 + math.sqrt(2 * squared * -math.log(delta))  # zCDP bounds it
    if high > 600:  # beyond, exp(epsilon) leaves a float64
        return high * (1 + MARGIN)
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _too_small(middle, squared, delta) else (low, middle)
    return high * (1 + MARGIN)


def _too_small(candidate: float, squared: float, delta: float) -> bool:
    """Return whether delta at this epsilon, rounded up, is above `delta`."""
    mu = math.sqrt(squared)
    near, far = candidate / mu - mu / 2, candidate / mu + mu / 2
    upper = math.erfc(near / math.sqrt(2)) / 2
    lower = math.exp(candidate) * math.erfc(far / math.sqrt(2)) / 2
    return upper * (1 + 1e-12) - lower * (1 - 1e-12) > delta


@lru_cache(maxsize=1024)
def largest_mu(epsilon: float, delta: float) -> float:
    """Compute the largest signal-to-noise that (epsilon, delta) allows, rounded down.

    Args:
        epsilon: above 0 and at most 100.
        delta: above 0 and below 1.
    """
    low, high = 0.0, 1.0
    while gaussian_epsilon(high * high, delta) <= epsilon:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_epsilon(middle * middle, delta) <= epsilon else (low, middle)
    return low
