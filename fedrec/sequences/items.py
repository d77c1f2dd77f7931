"""Vectors of items for sequence towers: a linear function of public features, of a table's rows, or of both.

Every vector is linear in the parameters, so a user's gradient follows from the slopes in the vectors that the user
computes with: one product with public features, and one sum over rows of the table.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from fedrec.rowwise import bmm

ItemsOf = Literal["features", "ids", "both", "codes"]


class ItemVectors(nn.Module):
    """Vectors of the items: features @ projection + the sum of each item's rows of the table.

    Args:
        features: (items, columns), public; None for rows alone.
        rows: (items, r) int64, the table's rows of each item: its own, or one for each of its codes; None for none.
        start: (n, d) initial table.
        dim: length d of a vector.
    """

    features: Tensor | None
    rows: Tensor | None

    def __init__(
        self, features: Tensor | None, dim: int, rows: Tensor | None = None, start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.projection, self.table = None, None
        if features is not None:
            self.projection = nn.Parameter(torch.eye(features.shape[1], dim, device="cpu"))
        if start is not None:
            self.table = nn.Parameter(start.clone())

    @property
    def width(self) -> int:
        """Numbers of one item that a gradient is made of: its public features."""
        return 0 if self.features is None else self.features.shape[1]

    def forward(self) -> Tensor:
        """Compute the vectors of all items, (items, d)."""
        parts = []
        if self.features is not None and self.projection is not None:
            parts.append(self.features @ self.projection)
        if self.rows is not None and self.table is not None:
            parts += [self.table[column] for column in self.rows.unbind(1)]
        return torch.stack(parts).sum(0)

    def pulled_back(self, items: Tensor, slopes: Tensor) -> dict[str, Tensor]:
        """Compute each user's gradient in the parameters.

        Args:
            items: (B, m) int64 positions; an item may occur several times.
            slopes: (B, m, d) the gradient in each of these vectors.

        Returns:
            By the parameter's name, (B, *shape).
        """
        found: dict[str, Tensor] = {}
        if self.features is not None and self.projection is not None:
            found["projection"] = bmm(self.features[items].mT, slopes)
        if self.table is not None:
            found["table"] = self._in_table(items, slopes)
        return found

    def _in_table(self, items: Tensor, slopes: Tensor) -> Tensor:
        assert self.rows is not None
        assert self.table is not None
        total = slopes.new_zeros(len(items), *self.table.shape)
        for column in self.rows.unbind(1):
            total.scatter_add_(1, column[items][:, :, None].expand_as(slopes), slopes)
        return total

    def pulled_back_products(self, items: Tensor, left: Tensor, right: Tensor, shared: bool) -> dict[str, Tensor]:
        """Compute what `pulled_back` computes for the slopes left^T right, without making these where it can.

        Args:
            items: (B, N) int64 positions.
            left: (B, T, N).
            right: (B, T, d).
            shared: whether every user has the same items.
        """
        found: dict[str, Tensor] = {}
        if self.features is not None and self.projection is not None:
            if shared and len(items):
                summed = (left.flatten(0, 1) @ self.features[items[0]]).view(*left.shape[:2], -1)  # (B, T, columns)
            else:
                summed = bmm(left, self.features[items])
            found["projection"] = bmm(summed.mT, right)
        if self.table is not None:
            found["table"] = self._in_table(items, bmm(left.mT, right))
        return found
