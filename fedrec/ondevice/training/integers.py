"""From a person's part to the integers that leave: the clip, the fine lattice, and the encodings of users' noise.

The rules are those of `fedrec.privacy.clipping`, `fedrec.privacy.fixed_point` and `fedrec.privacy.integers`, for one
person and with numpy.
"""

import math
from collections.abc import Callable

import numpy as np

from fedrec.ondevice.training.base import DeviceQuery, Part
from fedrec.privacy.discrete.encoding import Encoding
from fedrec.privacy.fixed_point import MARGIN, ROOM, Lattice

_LEAST_WEIGHT = float(np.finfo(np.float32).tiny)


def clip_weight(norm: float, clip_norm: float) -> float:
    """Return the weight for which the whole contribution is no longer than the clip; 0 leaves the person out."""
    if not math.isfinite(norm):
        return 0.0
    weight = 1.0 if norm == 0 else min(1.0, clip_norm * (1 - MARGIN) / norm)
    return weight if weight >= _LEAST_WEIGHT else 0.0


def exact(query: DeviceQuery, part: Part, users: int) -> np.ndarray:
    """Return the integers of trust model `central`: (query.shape) int64 on the fine lattice.

    Args:
        query: the query.
        part: of one person.
        users: the public size of the population.
    """
    return _whole(query, part, query.lattice(users))


def encoded(
    query: DeviceQuery, part: Part, users: int, encoding: Encoding, draws: Callable[[], np.random.Generator]
) -> np.ndarray:
    """Return the integers of trust models `distributed` and `local`, int64 modulo 2^bits, without noise.

    Args:
        query: the query.
        part: of one person.
        users: the public size of the population.
        encoding: of the query.
        draws: makes the randomness of the rounding.
    """
    if encoding.kind == "plain":
        found = _whole(query, part, Lattice(math.frexp(query.clip_norm / encoding.length)[1] - 1))
    else:
        fine = query.lattice(users)
        whole = _whole(query, part, fine).astype(np.float64)
        if not whole.any():
            return np.zeros(encoding.dimension, np.int64)
        units = query.units()
        whole = whole if units is None else np.trunc(whole * units)
        found = encoding.rotated(whole.reshape(1, -1), query.clip_norm / fine.step, [draws()])[0]
    return found & np.int64((1 << encoding.bits) - 1)


def _whole(query: DeviceQuery, part: Part, lattice: Lattice) -> np.ndarray:
    total = np.zeros(query.shape, np.int64)
    weight = clip_weight(part.norm(), query.clip_norm)
    if weight:
        part.add_to(total, weight, lattice)
        if total.size and not -(1 << ROOM) < int(total.min()) <= int(total.max()) < 1 << ROOM:
            raise ValueError("a part is larger than exact sums hold")
    return total
