"""The parameters of a tower as one row: named tensors of the shared state, laid end to end in the order of `start`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedrec.algorithms.base import Shared

PREFIX = "tower."


def flat(shared: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """Return the parameters in `shared`, (P,)."""
    return torch.cat([shared[PREFIX + name].flatten() for name in start])


def named(parameters: Tensor, start: Mapping[str, Tensor]) -> Shared:
    """Return parameters (P,) as named tensors of the shapes of `start`."""
    parts = parameters.split([value.numel() for value in start.values()])
    return {
        PREFIX + name: part.view(value.shape).clone() for part, (name, value) in zip(parts, start.items(), strict=True)
    }
