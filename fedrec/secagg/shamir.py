"""Shamir's secret sharing (1979) over the integers modulo 2**521 - 1.

Different from Flower 1.41, which shares 16 bytes at a time in GF(2**128): one polynomial takes a whole 256-bit
secret, and the weights of a set of points are computed once.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

PRIME = (1 << 521) - 1
SHARE = 66
"""Bytes of a share."""


def split(secret: int, points: Sequence[int], threshold: int) -> list[int]:
    """Return a share for each point; any `threshold` of them give the secret, fewer give nothing.

    Args:
        secret: 0 to PRIME - 1.
        points: distinct, from 1 on; that of a member is its place in the roster plus one.
        threshold: shares that are needed, 1 to len(points).

    Raises: ValueError for anything else.
    """
    if not 0 <= secret < PRIME or not 1 <= threshold <= len(points):
        raise ValueError("a secret below 2**521 - 1 and a threshold of 1 to the number of points are needed")
    if len(set(points)) != len(points) or not all(0 < point < 1 << 32 for point in points):
        raise ValueError("points are distinct numbers from 1 on")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return [_at(point, coefficients, secret) for point in points]


def combine(shares: Mapping[int, int]) -> int:
    """Return the secret of exactly `threshold` shares, given as point to share; of fewer, a number without meaning."""
    points = tuple(sorted(shares))
    return sum(weight * shares[point] for weight, point in zip(_weights(points), points, strict=True)) % PRIME


def _at(point: int, coefficients: Sequence[int], secret: int) -> int:
    value = 0
    for coefficient in coefficients:
        value = (value + coefficient) * point  # grows by 32 bits a step, which costs less than to reduce
    return (value + secret) % PRIME


@lru_cache(maxsize=4096)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights at zero."""
    found = []
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)
