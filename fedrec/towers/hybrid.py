"""`hybrid`: public content plus a vector of the item's own, so that behaviour corrects the content.

Both share one clip, and `id_scale` divides it: the own vectors and their gradients are multiplied by it. Under privacy
every entry of the table gets the same noise, and a small `id_scale` lets the content lead.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.towers.base import TowerConfig
from fedrec.towers.content import ContentConfig, ContentTower
from fedrec.towers.layers import RowTable


class HybridConfig(ContentConfig):
    """Settings of the hybrid tower."""

    init_std: float = Field(0.1, gt=0)
    """Initial entries of the own vectors are normal with standard deviation init_std / sqrt(dim)."""
    id_scale: float = Field(1.0, gt=0)
    """Factor on the own vectors."""


class HybridTower(ContentTower):
    """content(features) + id_scale * table."""

    name: ClassVar[str] = "hybrid"
    Config: ClassVar[type[TowerConfig]] = HybridConfig
    tables: ClassVar[tuple[str, ...]] = ("table.weight",)

    def __init__(self, config: HybridConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        self.table_scale = config.id_scale
        self.table = RowTable.normal(self.items, config.dim, config.init_std, seed)

    def begin(self, vectors: Tensor, known: Tensor) -> None:
        super().begin(vectors, known)
        items = known.nonzero()[:, 0]
        with torch.no_grad():
            content = super().encode(items, items)
        self.table.weight.data[items] = (vectors[items] - content) / self.table_scale

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        return super().encode(items, rows) + self.table_scale * self.table(rows)
