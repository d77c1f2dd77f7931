"""`id`: one free vector an item. An item without events keeps its random start."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.towers.base import ItemTower, TowerConfig
from fedrec.towers.layers import RowTable


class IdConfig(TowerConfig):
    """Settings of the id tower."""

    init_std: float = Field(0.1, gt=0)
    """Initial entries are normal with standard deviation init_std / sqrt(dim)."""


class IdTower(ItemTower):
    """An embedding table."""

    name: ClassVar[str] = "id"
    Config: ClassVar[type[TowerConfig]] = IdConfig
    tables: ClassVar[tuple[str, ...]] = ("table.weight",)
    corrected: ClassVar[bool] = True

    def __init__(self, config: IdConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        self.table = RowTable.normal(self.items, config.dim, config.init_std, seed)

    def begin(self, vectors: Tensor, known: Tensor) -> None:
        self.table.weight.data[known] = vectors[known]

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        vectors: Tensor = self.table(rows)
        return vectors
