"""`mlp`: an item's vector from public features through several layers of hidden units.

As in neural collaborative filtering over content (He et al. 2017), but for one item alone. The network is added to a
projection on the leading public directions and starts at zero, so that similar items have similar vectors before any
training. `content` with `hidden` is the same with a single layer.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from fedrec import draws
from fedrec.data.catalogue import Catalogue
from fedrec.towers.base import ItemTower, TowerConfig
from fedrec.towers.features import public_features


class MLPConfig(TowerConfig):
    """Settings of the MLP tower."""

    features: int = Field(64, ge=1, le=4096)
    """Public feature columns: the leading directions of the public kernels."""
    layers: tuple[int, ...] = (64, 32)
    """Units of the hidden layers, the first one first."""
    content_scale: float = Field(1.0, gt=0)
    """Initial root-mean-square length of the projected vectors."""

    @field_validator("layers")
    @classmethod
    def _have_units(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= units <= 4096 for units in value):
            raise ValueError("layers are one or more numbers of units, each from 1 to 4096")
        return value


class MLPTower(ItemTower):
    """projection(features) + network(features)."""

    name: ClassVar[str] = "mlp"
    Config: ClassVar[type[TowerConfig]] = MLPConfig
    features: Tensor

    def __init__(self, config: MLPConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        self.register_buffer("features", public_features(catalogue, config.features), persistent=False)
        width = self.features.shape[1]
        self.linear = nn.Linear(width, config.dim, bias=False, device="cpu")
        self.linear.weight.data = config.content_scale * torch.eye(config.dim, width, device="cpu")
        keys, parts = draws.keys(seed, torch.arange(len(config.layers), device="cpu")), []
        for place, units in enumerate(config.layers):
            layer = nn.Linear(width, units, device="cpu")
            # Rows of features have a mean square of 1 as a whole, those of units about 1 each.
            spread = math.sqrt(2 / width) if place else math.sqrt(2)
            layer.weight.data = spread * draws.normal(keys[[place]], 0, units * width).view(units, width)
            nn.init.zeros_(layer.bias)
            parts += [layer, nn.ReLU()]
            width = units
        last = nn.Linear(width, config.dim, bias=False, device="cpu")
        nn.init.zeros_(last.weight)
        self.network = nn.Sequential(*parts, last)

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        features = self.features[items]
        vectors: Tensor = self.linear(features) + self.network(features)
        return vectors
