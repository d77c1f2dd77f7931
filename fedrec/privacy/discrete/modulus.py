"""Sums modulo 2^b, and the probability that a true sum leaves the range in which it can be read back.

A sum of integers is known modulo 2^b alone, so a true sum at or beyond 2^(b - 1) reads as another one. That costs
quality and never privacy: whatever is read is computed from the noisy sum.

The bound here is proven for any users' vectors, with the signs of the rotation as the only assumption: each entry of
the rotated sum is a weighted sum of random signs, hence sub-Gaussian (Hoeffding), and never above users x length;
rounding moves it by less than one step a user; Skellam noise has the moments exp(v (cosh t - 1)). Chernoff's bound
holds for every t; the best of some is taken.
"""

import math

import numpy as np


def wrapped(values: np.ndarray, bits: int) -> np.ndarray:
    """Return values modulo 2^bits, int64 of 0 .. 2^bits - 1; bits at most 62."""
    found: np.ndarray = values & np.int64((1 << bits) - 1)
    return found


def centred(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the representative of each value modulo 2^bits from -2^(bits-1) to 2^(bits-1) - 1, int64."""
    half = np.int64(1 << (bits - 1))
    return wrapped(values + half, bits) - half


def log_tail(room: float, variance: float, spread: float, most: float) -> float:
    """Bound the logarithm of P(|S + N| >= room) for a bounded symmetric S and independent Skellam noise N.

    Args:
        room: in steps.
        variance: of the noise N.
        spread: sub-Gaussian standard deviation of S.
        most: largest absolute value of S, which has it if the spread is larger.

    Returns: the logarithm, at most 0.
    """
    if room <= 0:
        return 0.0
    if variance == 0:
        gauss = math.log(2) - room**2 / (2 * spread**2) if spread > 0 else -math.inf
        return -math.inf if room > most else min(0.0, gauss)
    t = room / (variance + spread**2) * np.exp2(np.linspace(-6, 6, 481))
    t = t[t < 700]
    if not len(t):
        t = np.array([700.0])
    with np.errstate(over="ignore"):
        moments = np.minimum(t**2 * spread**2 / 2, t * most) + variance * 2 * np.sinh(t / 2) ** 2
    return min(0.0, math.log(2) + float(np.min(moments - t * room)))


def log_wrap_rotated(
    *, bits: int, users: int, length: float, dimension: int, variance: float, numbers: int | None = None
) -> float:
    """Bound the logarithm of the probability that any entry of a rotated, rounded, noisy sum wraps around.

    Args:
        bits: of the modulus.
        users: most users in a sum.
        length: largest L2 norm of a user's vector, in steps, before rounding.
        dimension: entries of the rotated vector.
        variance: of the noise of the sum.
        numbers: entries that count; all of them if None.
    """
    room = 2.0 ** (bits - 1) - users  # rounding moves each user's entry by less than one step
    spread, most = users * length / math.sqrt(dimension), users * length
    return min(0.0, math.log(numbers or dimension) + log_tail(room, variance, spread, most))


def log_wrap_plain(*, bits: int, users: int, length: float, numbers: int, variance: float) -> float:
    """Bound the logarithm of the probability that any entry of a noisy sum without rotation wraps around.

    Args:
        bits: of the modulus.
        users: most users in a sum.
        length: largest absolute value of one user's entry, in steps.
        numbers: entries of the sum.
        variance: of the noise of the sum.
    """
    room = 2.0 ** (bits - 1) - users * length  # users may all add the same: nothing spreads them
    return min(0.0, math.log(numbers) + log_tail(room, variance, 0.0, 0.0))
