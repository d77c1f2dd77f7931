"""Where a pair of items is in a sketch of pairs, and its sign: a public hash, the same on server and device.

Source: count sketch (Charikar, Chen, Farach-Colton 2002). The hash mixes bits as MurmurHash3's finalizer does. It
needs no secret: the sketch is post-processed, and a device bounds its own vector after the sketch.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Numbers = TypeVar("Numbers", "np.ndarray", "Tensor")

UNITS = 1 << 18
"""Parts of a decay of 1, of which a user's sketch is a sum: whole numbers, whose sums are exact in any order."""
_FIRST, _SECOND = -0x00AE502812AA7333, -0x3B314601E57A13AD  # odd, as signed 64-bit numbers


def places(pairs: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """Return each pair's place among `count` ones, and its sign, 1 or -1.

    Args:
        pairs: numbers of pairs, int64 of any shape.
        count: places of the sketch.
    """
    mixed = (pairs + 1) * _FIRST
    mixed = (mixed ^ ((mixed >> 33) & ((1 << 31) - 1))) * _SECOND
    mixed = mixed ^ ((mixed >> 33) & ((1 << 31) - 1))
    return (mixed >> 1 & ((1 << 62) - 1)) % count, 1 - 2 * (mixed & 1)
