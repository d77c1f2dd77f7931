"""Gaussian noise on an exact sum: the release of trust model `central`.

The noise is rounded to the sum's lattice and added as integers. What follows is post-processing of the result: float32,
rounded to a grid that `ROUNDING` describes.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from fedrec.errors import PrivacyError
from fedrec.privacy.fixed_point import Lattice, check_room
from fedrec.privacy.queries import PrivateSum, SumQuery

ROUNDING = 2.0**-10
"""Releases are rounded to a grid of a power of two at most this part of the noise's standard deviation."""


def check_fits(query: SumQuery, lattice: Lattice, std: float, where: str) -> None:
    """Check that exact sums have room for the noise.

    Args:
        query: the query.
        lattice: of its sums.
        std: largest standard deviation of the noise, in the sum's units.
        where: the round, for the message.
    Raises: PrivacyError.
    """
    if not lattice.noise_fits(std):
        raise PrivacyError(
            f"{where}, query '{query.name}': noise of {std / query.clip_norm:.3g} clips is more than exact sums hold; "
            "raise privacy.epsilon, or ask for fewer rounds"
        )


def noisy(query: SumQuery, total: Tensor, lattice: Lattice, std: float, drawn: Iterable[Tensor]) -> PrivateSum:
    """Add Gaussian noise to an exact sum of clipped contributions, on the sum's device.

    Args:
        query: the query.
        total: int64 of the query's shape, in steps of `lattice`.
        lattice: of the sum.
        std: standard deviation of the noise, in the sum's units.
        drawn: the noise in units of `std`, float64, one number for each entry of the sum, in blocks.
    """
    check_room(total)
    grid, device = 2.0 ** math.floor(math.log2(std * ROUNDING)), total.device
    flat, units = total.detach().reshape(-1), query.units(device)
    row = torch.ones(1, dtype=torch.float64, device=device) if units is None else units
    released = torch.empty(query.size, device=device)
    start = 0
    for normals in drawn:
        end = start + len(normals)
        steps = lattice.step * row[torch.arange(start, end, device=device) % len(row)]
        noisy = flat[start:end] + (std * normals.to(device) / steps).round_().long()
        released[start:end] = (noisy * steps / grid).round_() * grid
        start = end
    return PrivateSum(released.view(query.shape), std)
