"""The way of one query's vectors to integers modulo 2^b, and of their noisy sum back.

A user's clipped contribution is whole numbers already, on the fine lattice of `fedrec.privacy.fixed_point`. Two ways
lead on:

| | `rotated` | `plain` |
|---|---|---|
| steps | signs, Hadamard transform, scale, conditional rounding | a lattice with fewer steps; nothing else |
| bound D2 | enforced on the rounded integers | the clip: rounding towards zero never lengthens |
| room below the modulus | for typical sums: signs spread every entry | for all users adding the same |
| bits a number | about 18 for 6,000 users | about 35 for 6,000 users |
| one user costs | a dense vector of the query's size | the entries that the user has |

`rotated` is for vectors up to `LARGEST_ROTATED` numbers. `plain` carries larger ones, whose users touch few entries
(co-occurrence of items): no dense vector per user exists there. Both are exact in any order of users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from fedrec.privacy.discrete.modulus import centred, log_wrap_plain, log_wrap_rotated, wrapped
from fedrec.privacy.discrete.renyi import largest_absolute
from fedrec.privacy.discrete.rotation import rotate, signs, unrotate
from fedrec.privacy.discrete.rounding import rounded_within, squared_bound
from fedrec.privacy.discrete.skellam import LARGEST_VARIANCE

LARGEST_ROTATED = 1 << 17
"""Most numbers of a query that is rotated."""
WRAP = 1e-6
"""Probability that a release is spoilt by wrap-around, at most, where the modulus follows from the query."""
ROUNDING_COST = 0.005
"""Noise that rounding may add, as a part of it, where the modulus follows from the query."""
MOST_BITS = 62
MOST_STEPS = 24
"""Steps of a clip of a plain query, as a power of two, at most."""
FEWEST_STEPS = 8
SMALLEST_PADDING = 1024
"""Vectors may be padded up to this: with more entries, signs spread a sum better."""


@dataclass(frozen=True)
class Encoding:
    """The integers of one query.

    Attributes:
        kind: see the module.
        size: numbers of the query.
        dimension: numbers that are sent; a power of two where rotated.
        bits: of the modulus.
        length: steps of the clip: L2 norm of the longest contribution, before rounding.
        squared: largest squared L2 norm of one user's integers.
        label: of the public signs.
    """

    kind: Literal["rotated", "plain"]
    size: int
    dimension: int
    bits: int
    length: float
    squared: int
    label: str = ""

    @property
    def absolute(self) -> int:
        """The largest L1 norm of one user's integers."""
        return largest_absolute(self.squared, self.dimension)

    @property
    def rounding_cost(self) -> float:
        """Noise that rounding adds, as a part of it."""
        return math.sqrt(self.squared) / self.length - 1

    def log_wrap(self, users: int, variance: float) -> float:
        """Bound the logarithm of the probability that a sum with noise of this variance wraps around anywhere."""
        if self.kind == "rotated":
            return log_wrap_rotated(
                bits=self.bits, users=users, length=self.length, dimension=self.dimension, variance=variance
            )
        return log_wrap_plain(
            bits=self.bits, users=users, length=self.length, numbers=self.dimension, variance=variance
        )

    def rotated(self, whole: np.ndarray, longest: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
        """Encode users' vectors of a rotated query, without noise.

        Args:
            whole: (users, size) float64, whole numbers with an L1 norm below 2^53.
            longest: the L2 norm that stands for the clip, in the same steps.
            draws: the randomness of each user's rounding.

        Returns: (users, dimension) int64, each row with a squared norm of at most `squared`.
        """
        turned = rotate(whole, signs(self.label, self.dimension))
        turned *= self.length / (longest * math.sqrt(self.dimension))
        rows = [rounded_within(row, self.squared, own) for row, own in zip(turned, draws, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.int64)

    def sent(self, integers: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return what a device masks and sends: integers and its noise share modulo 2^bits, int64, not negative."""
        return wrapped(integers + noise, self.bits)

    def read(self, total: np.ndarray) -> np.ndarray:
        """Return the integers (int64) that a total modulo 2^bits stands for."""
        return centred(total, self.bits)

    def decoded(self, total: np.ndarray) -> np.ndarray:
        """Return a sum in units of the clip, (size,) float64.

        Args:
            total: (dimension,) int64, as from `read`.
        """
        if self.kind == "plain":
            return total.astype(np.float64) / self.length
        found = unrotate(total.astype(np.float64), signs(self.label, self.dimension), self.size)
        return found * (math.sqrt(self.dimension) / self.length)


def rotated(size: int, users: int, multiplier: float, bits: int | None = None, label: str = "") -> Encoding:
    """Choose the encoding of a rotated query: as many steps a clip as the modulus has room for.

    Args:
        size: numbers of the query.
        users: most users in a sum.
        multiplier: standard deviation of the sum's noise over D2.
        bits: of the modulus; None for the fewest whose rounding adds at most `ROUNDING_COST` to the noise.
        label: of the public signs.

    Raises: ValueError where no modulus has room.
    """
    for wide in range(8, MOST_BITS - 20) if bits is None else (bits,):
        found = [one for d in _dimensions(size) if (one := _longest(size, d, users, multiplier, wide, label))]
        best = min(found, key=lambda one: one.rounding_cost, default=None)
        if best is not None and (bits is not None or best.rounding_cost <= ROUNDING_COST):
            return best
    raise ValueError(
        f"a modulus of {bits} bits has no room for {users} users and noise of {multiplier:.3g} clips"
        if bits is not None
        else f"no modulus has room for {users} users and noise of {multiplier:.3g} clips"
    )


def plain(size: int, users: int, multiplier: float, step: float, clip_norm: float) -> Encoding:
    """Return the encoding of a query that is not rotated, on a given lattice.

    Args:
        size: numbers of the query.
        users: most users in a sum.
        multiplier: standard deviation of the sum's noise over D2.
        step: of the lattice, a power of two.
        clip_norm: of the query.

    Raises: ValueError where no modulus has room.
    """
    squared = math.floor((Fraction(clip_norm) / Fraction(step)) ** 2)
    made = Encoding("plain", size, size, 8, clip_norm / step, squared)
    for wide in range(8, MOST_BITS + 1):
        made = replace(made, bits=wide)
        if made.log_wrap(users, multiplier**2 * squared) <= math.log(WRAP):
            return made
    raise ValueError(f"no modulus has room for {users} users and noise of {multiplier:.3g} clips")


def plain_steps(multiplier: float) -> int:
    """Return the steps of a clip, as a power of two with an even exponent, that leave room for the noise.

    Args:
        multiplier: standard deviation of the sum's noise over D2.

    Raises: ValueError where the noise leaves too few.
    """
    room = math.floor(math.log2(math.sqrt(LARGEST_VARIANCE) / max(multiplier, 2.0**-40)))
    found = min(MOST_STEPS, room // 2 * 2)
    if found < FEWEST_STEPS:
        raise ValueError(f"noise of {multiplier:.3g} clips is more than exact integers hold")
    return found


def _dimensions(size: int) -> list[int]:
    least = 1 << max(0, (size - 1).bit_length())
    return [least, *(1 << k for k in range(least.bit_length(), SMALLEST_PADDING.bit_length()))]


def _longest(size: int, dimension: int, users: int, multiplier: float, bits: int, label: str) -> Encoding | None:
    """Return the encoding with most steps a clip that keeps wrap-around below `WRAP`; None where none does."""
    low, high, best = 0.0, math.log(2.0**26) - 1, None
    for _ in range(26):
        middle = (low + high) / 2
        length = math.exp(middle)
        squared = squared_bound(length, dimension) if length + math.sqrt(dimension) < 2.0**26 else 0
        made = Encoding("rotated", size, dimension, bits, length, squared, label)
        fits = 0 < multiplier**2 * squared <= LARGEST_VARIANCE
        if fits and made.log_wrap(users, multiplier**2 * squared) <= math.log(WRAP):
            low, best = middle, made
        else:
            high = middle
    return best
