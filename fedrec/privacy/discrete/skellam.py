"""Skellam noise: the difference of two equal Poisson draws, which is closed under summation.

Sources: "The Skellam Mechanism for Differentially Private Federated Learning" (arXiv 2110.04995); Poisson draws by
transformed rejection (PTRS, Hormann 1993) from a mean of 10 on, below it by inversion. Different here: the words come
from ChaCha20; the density in the rejection is Loader's (2000, "Fast and Accurate Computation of Binomial
Probabilities"), since k log(mean) - mean - log k! cancels to nothing at large means; the table of the inversion is
computed with 50 digits and compared as 64-bit integers.

| mean | method | error of the distribution |
|---|---|---|
| 0 | no draw | none |
| below 10 | inversion | at most 2^-64 for each value |
| 10 to 2^51 | rejection | relative, about 1e-14 in the acceptance probability |
| above | refused | |
"""

import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from fedrec.privacy.discrete.stream import WordStream

LARGEST_VARIANCE = 2.0**52
"""Poisson draws of half of it are still exact integers in float64."""

BLOCK = 1 << 16
"""Numbers drawn at a time. A part of the stream's definition: changing it changes every seeded run."""

_REJECTION = 10.0
_STIRLING = [0.0] + [
    math.lgamma(k + 1) - ((k + 0.5) * math.log(k) - k + 0.5 * math.log(2 * math.pi)) for k in range(1, 16)
]


def skellam(variance: float, size: int, stream: WordStream) -> np.ndarray:
    """Draw symmetric Skellam noise.

    Args:
        variance: of each number, from 0 to `LARGEST_VARIANCE`.
        size: how many numbers.
        stream: the source of randomness; it is advanced.

    Returns: (size,) int64.
    Raises: ValueError for a variance out of range.
    """
    if not 0 <= variance <= LARGEST_VARIANCE:
        raise ValueError(f"the variance of Skellam noise must be from 0 to 2^52, got {variance:g}")
    found = np.empty(size, dtype=np.int64)
    for start in range(0, size, BLOCK):
        some = found[start : start + BLOCK]
        some[:] = poisson(variance / 2, len(some), stream)
        some -= poisson(variance / 2, len(some), stream)
    return found


def poisson(mean: float, size: int, stream: WordStream) -> np.ndarray:
    """Draw Poisson numbers.

    Args:
        mean: from 0 to 2^51.
        size: how many numbers.
        stream: the source of randomness; it is advanced.

    Returns: (size,) int64.
    """
    if mean == 0:
        return np.zeros(size, dtype=np.int64)
    if mean < _REJECTION:
        return np.searchsorted(_table(mean), stream.words(size), side="right").astype(np.int64)
    found = np.empty(size, dtype=np.int64)
    left = np.arange(size)
    while len(left):
        kept, values = _tried(mean, len(left), stream)
        found[left[kept]] = values[kept]
        left = left[~kept]
    return found


@lru_cache(maxsize=64)
def _table(mean: float) -> np.ndarray:
    """Return floor(2^64 P(X <= k)) for k = 0, 1, ..., uint64, up to the first that is 2^64 - 1."""
    with localcontext() as context:
        context.prec = 50
        term = (-Decimal(mean)).exp()
        total, k = Decimal(0), 0
        found: list[int] = []
        most = (1 << 64) - 1
        while not found or (found[-1] < most and term > Decimal(2) ** -80):
            total += term
            found.append(min(most, int(total * (1 << 64))))
            k += 1
            term = term * Decimal(mean) / k
    return np.array(found, dtype=np.uint64)


def _tried(mean: float, size: int, stream: WordStream) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `size` proposals are accepted, and the proposals, int64."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    sure = 0.9277 - 3.6224 / (b - 2)
    u, v = stream.uniforms(2 * size).reshape(2, size)
    u = u - 0.5
    near = 0.5 - np.abs(u)
    k = np.floor((2 * a / near + b) * u + mean + 0.43)
    kept = (near >= 0.07) & (v <= sure)
    look = ~kept & (k >= 0) & (k <= 2.0**53) & ((near >= 0.013) | (v <= near))
    height = np.log(v[look] * inverse_alpha / (a / near[look] ** 2 + b))
    kept[look] = height <= log_poisson(k[look], mean)
    return kept, np.where(kept, k, 0.0).astype(np.int64)


def log_poisson(k: np.ndarray, mean: float) -> np.ndarray:
    """Compute the logarithm of the Poisson probability of each k without cancellation.

    Args:
        k: (n,) whole numbers as float64, not negative.
        mean: above 0.

    Returns: (n,) float64.
    """
    positive = np.maximum(k, 1.0)
    found = -_stirling(positive) - _deviance(positive, mean) - 0.5 * np.log(2 * np.pi * positive)
    logs: np.ndarray = np.where(k > 0, found, -mean)
    return logs


def _stirling(k: np.ndarray) -> np.ndarray:
    """Compute log k! less Stirling's approximation, for k >= 1."""
    square = k * k
    series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / k
    found: np.ndarray = np.where(k < 16, np.array(_STIRLING)[np.minimum(k, 15).astype(np.int64)], series)
    return found


def _deviance(k: np.ndarray, mean: float) -> np.ndarray:
    """Compute k log(k / mean) + mean - k, by a series where k is near the mean."""
    apart = k - mean
    ratio = apart / (k + mean)
    series, power = apart * ratio, 2 * k * ratio
    for odd in range(3, 33, 2):
        power = power * ratio * ratio
        series = series + power / odd
    with np.errstate(divide="ignore"):
        plain = k * np.log(k / mean) + mean - k
    found: np.ndarray = np.where(np.abs(ratio) < 0.1, series, plain)
    return found
