"""The table that towers with free item vectors are made of."""

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
