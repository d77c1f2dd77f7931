"""Exact sums: each user adds a vector of integers, and integers add up to the same total in any order.

A query's lattice follows from its clip and from the public number of users, never from data. Its step is a power of
two with an even exponent:

    E    = the smallest even number with clip <= 2^E
    bits = min(those of the query, MOST_BITS, ROOM - ceil(log2 users)), rounded down to an even number
    step = 2^(E - bits)           root = 2^((E - bits) / 2), so that root * root = step

A user's contribution c has an L2 norm; the clip gives it a weight w with w * norm(c) <= clip
(`fedrec.privacy.clipping`). It becomes integers in one of two ways, and both round TOWARDS ZERO:

- by entry: q = trunc(w c / step);
- by factors, where an entry is a product l r: q = trunc(l / s) trunc(r / (step / s)), s a power of two.

Rounding towards zero never lengthens an entry, so step * norm(q) <= clip for every dimension, without a margin. The
error of an entry is below one step: 2^-34 of the clip at the defaults; of a product, below 2^-17 of its factors' size.

| what could break it | why it does not |
|---|---|
| the float operations before trunc | a few in float64, 2^-52 relative each; the clip keeps a margin of 2^-20 |
| a sum of one batch, in float64 | its integers stay below USERS_AT_ONCE * 2^MOST_BITS <= 2^53: every order is exact |
| the total, in int64 | it stays below users * 2^bits <= 2^ROOM |
| total and noise, in int64 | the noise stays below 2^ROOM, or the plan is refused; together below 2^62 |
| others' integers, when one user leaves | they are functions of their own users alone: `fedrec.rowwise` |

One user therefore moves the computed total by at most one clip, for any population and any cut into batches, threads
and nodes. The float noise is rounded to the same lattice. The total is on the lattice, so
total + round(noise) = round(total + noise): rounding is post-processing of the Gaussian mechanism. No low-order bits of
a float sum exist for an attack to read (Mironov 2012, "On Significance of the Least Significant Bits").

Without privacy nothing is clipped and users may exceed the bounds: a total that could overflow is refused, and a batch
whose sums pass 2^53 may round.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedrec.errors import PrivacyError

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 2.0**-20
"""Relative margin of a clip. Weights, products and casts to float32 err by 2^-24 each; the clipped norm stays below."""

MOST_BITS = 36
"""Steps of a clip, as a power of two, where the population leaves room for them."""

FEWEST_BITS = 8
"""Fewest steps of a clip that a query may ask for, as a power of two."""

ROOM = 60
"""A total stays below 2^ROOM."""

MOST_USERS = 1 << 30
"""Largest population: it still has 2^30 steps a clip."""

USERS_AT_ONCE = 1 << 16
"""Most users of one batch: their sums stay exact in float64."""

NOISE_REACH = 17.5
"""No draw of `fedrec.privacy.noise` is more standard deviations from zero."""


@dataclass(frozen=True)
class Lattice:
    """The multiples of `step`, which are the possible sums of a query.

    Attributes:
        exponent: of the step, as a power of two; even.
    """

    exponent: int

    @classmethod
    def of(cls, clip_norm: float, users: int, bits: int = MOST_BITS) -> "Lattice":
        """Return the lattice of sums of up to `users` contributions with L2 norms of at most `clip_norm`.

        bits: steps of a clip at most, as an even power of two: `SumQuery.bits`.

        Raises: PrivacyError for more than MOST_USERS users, or none.
        """
        if not 1 <= users <= MOST_USERS:
            raise PrivacyError(f"exact sums hold 1 to {MOST_USERS} users, got {users}")
        return cls.with_bits(clip_norm, min(bits, MOST_BITS, ROOM - (users - 1).bit_length()) // 2 * 2)

    @classmethod
    def with_bits(cls, clip_norm: float, bits: int) -> "Lattice":
        """Return the lattice with 2^(bits - 2) to 2^bits steps a clip; bits even."""
        mantissa, exponent = math.frexp(clip_norm)
        exponent -= mantissa == 0.5  # the smallest exponent with clip_norm <= 2^exponent
        return cls(exponent + (exponent & 1) - bits)

    @property
    def step(self) -> float:
        """Distance of neighbouring points, in the sum's units."""
        return math.ldexp(1.0, self.exponent)

    @property
    def root(self) -> float:
        """Step of a factor where both factors have the same; root * root = step."""
        return math.ldexp(1.0, self.exponent // 2)

    def whole(self, values: "Tensor") -> "Tensor":
        """Return `values` in steps, rounded towards zero: integers as float64."""
        return (values.double() / self.step).trunc_()

    def halves(self, values: "Tensor") -> "Tensor":
        """Return factors in roots, rounded towards zero: integers as float64; a product of two is in steps."""
        return (values.double() / self.root).trunc_()

    def factor_steps(self, left: "Tensor", right: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return steps (N,) for the two factors of N users: powers of two whose product is the lattice's step.

        Both factors of a user keep as many digits.

        Args:
            left: largest entry of each user's first factor, (N,).
            right: largest entry of each user's second factor, (N,).
        """
        import torch

        ratio = left.double().clamp(min=1e-150) / right.double().clamp(min=1e-150)
        shift = torch.frexp(ratio.sqrt()).exponent
        return _power(shift) * self.root, _power(-shift) * self.root

    def octets(self, clip_norm: float, users: int) -> int:
        """Return the bytes that hold an entry of any sum of so many clipped contributions, with its sign; 8 at most.

        It follows from public numbers alone, so the length of a message shows nothing of a history.
        """
        most = users * math.floor(clip_norm / self.step)
        return min(8, -(-(most.bit_length() + 1) // 8))

    def values(self, total: "Tensor") -> "Tensor":
        """Return the numbers (float64) of a total in steps (int64, or integers as float64)."""
        import torch

        return total.to(torch.float64, copy=True).mul_(self.step)

    def noise_fits(self, noise_std: float) -> bool:
        """Return whether noise of this standard deviation (in the sum's units) stays below 2^ROOM steps."""
        return noise_std * NOISE_REACH / self.step < 2.0**ROOM


def add_whole(total: "Tensor", part: "Tensor") -> None:
    """Add integers held in float64 to an int64 total, in place.

    Raises: PrivacyError when the part is not finite or so large that totals of it could overflow.
    """
    if part.numel():
        low, high = part.aminmax()
        largest = max(float(high), -float(low))  # NaN is neither
        if not largest < 2.0**ROOM or bool(low.isnan()):
            raise PrivacyError("users add numbers that exact sums cannot hold; set privacy.epsilon, which clips them")
    total += part.long()


def check_room(total: "Tensor") -> None:
    """Raises: PrivacyError when adding another batch to an int64 total could overflow."""
    if total.numel():
        low, high = total.aminmax()
        if max(int(high), -int(low)) >= 1 << (ROOM + 1):
            raise PrivacyError("users add numbers that exact sums cannot hold; set privacy.epsilon, which clips them")


def _power(exponents: "Tensor") -> "Tensor":
    """Return 2^exponents exactly, float64: by its bits, since the vector forms of exp2 may err in the last one."""
    import torch

    return ((exponents.long() + 1023) << 52).view(torch.float64)
