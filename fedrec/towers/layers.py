"""The table of towers with free item vectors."""

import math

import torch
from torch import nn

from fedrec import draws


class RowTable(nn.Embedding):
    """A vector for each item."""

    weight: nn.Parameter

    @classmethod
    def normal(cls, items: int, dim: int, std: float, seed: int) -> "RowTable":
        """Make a table of normal entries, which are a function of the seed and the item's position.

        Args:
            items: rows.
            dim: columns.
            std: standard deviation of an entry times sqrt(dim).
            seed: seed of the draws.
        """
        entries = draws.normal(draws.keys(seed, torch.arange(items, device="cpu")), 0, dim)
        return cls(items, dim, _weight=entries * (std / math.sqrt(dim)))
