"""Conditional stochastic rounding: unbiased but for a bound on the length that is enforced AFTER the rounding.

Rounding each entry up or down at random lengthens a vector. The bound (arXiv 2102.06387, Theorem 1; 2110.04995) is one
that a draw meets with a probability of at least 1 - e^(-1/2) = 39 %; rounding is drawn anew until it does. The check is
on the integers themselves, so nothing rests on a floating-point margin.
"""

import hashlib
import math

import numpy as np

MOST_TRIES = 128
"""Draws before the fallback. A vector within its length needs it with a probability below e^-64."""

LARGEST_SQUARED = 2**52
"""Largest bound: sums of squares up to it are exact in float64."""


def squared_bound(length: float, dimension: int) -> int:
    """Return the largest squared L2 norm of the rounded vector.

    Args:
        length: largest L2 norm before the rounding, in integer steps.
        dimension: entries of the vector.

    Raises: ValueError for a bound above `LARGEST_SQUARED`.
    """
    root = math.sqrt(dimension)
    conditional = length**2 + dimension / 4 + length + root / 2
    found = math.ceil(min(conditional, (length + root) ** 2))
    if found > LARGEST_SQUARED:
        raise ValueError(f"rounded vectors of length {length:g} in {dimension} dimensions exceed 2^26 steps")
    return found


def rounded_within(values: np.ndarray, most: int, draws: np.random.Generator) -> np.ndarray:
    """Round stochastically until the squared L2 norm is at most `most`.

    | what the rounding cannot do | result |
    |---|---|
    | meet the bound in `MOST_TRIES` draws | rounded towards zero, which never lengthens |
    | meet it even so, or a value is no number | zeros |

    Args:
        values: (d,) float64, in integer steps.
        most: the bound, at most `LARGEST_SQUARED`.
        draws: randomness of the rounding. Privacy does not rest on it.

    Returns: (d,) int64 with a squared norm of at most `most`, whatever the values are.
    """
    zeros = np.zeros(len(values), dtype=np.int64)
    low = np.floor(values)
    if not bool(np.all(np.abs(low) <= 2.0**26)):  # NaN, too
        return zeros
    part = values - low
    for _ in range(MOST_TRIES):
        drawn = low + (draws.random(len(values)) < part)
        if drawn @ drawn <= most:  # whole numbers: exact up to 2^53, and above it certainly too long
            found: np.ndarray = drawn.astype(np.int64)
            return found
    cut = np.trunc(values)
    short: np.ndarray = cut.astype(np.int64) if cut @ cut <= most else zeros
    return short


def users_draws(seed: int, round_index: int, query: str, user: int) -> np.random.Generator:
    """Return the randomness of one user's rounding: it follows from the user's identity, never from the batch.

    Args:
        seed: the user's own randomness; in a simulation, the same for all.
        round_index: position of the round, from 0.
        query: name of the query.
        user: the user's key.
    """
    words = hashlib.sha256(f"fedrec rounding\0{seed}\0{round_index}\0{query}\0{user}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(words[:16], dtype="<u8")))
