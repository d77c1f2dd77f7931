"""The layers that towers are made of: PyTorch's own, with norms per user that never cost more than they must.

Opacus finds a layer's norm sampler by the layer's class. Its sampler for `Linear` compares all pairs of a user's
items, which for a tower's narrow layers costs more than the user's gradient itself; its sampler for `Embedding` sorts
pairs of integers. These subclasses have samplers of their own (`fedrec.towers.ghost`); the layers compute the same.
"""

import math

import torch
from torch import nn

from fedrec import draws


class RowTable(nn.Embedding):
    """A vector for each item."""

    weight: nn.Parameter

    @classmethod
    def normal(cls, items: int, dim: int, std: float, seed: int) -> "RowTable":
        """Entries normal with standard deviation std / sqrt(dim), a function of the seed and the item's position."""
        entries = draws.normal(draws.keys(seed, torch.arange(items, device="cpu")), 0, dim)
        return cls(items, dim, _weight=entries * (std / math.sqrt(dim)))


class ItemLinear(nn.Linear):
    """A linear map of each of a user's items, (B, n, in) to (B, n, out)."""

    weight: nn.Parameter
