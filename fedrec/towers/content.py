"""`content`: an item's vector from public features alone.

It has few parameters, so privacy costs little, and new items have a vector from the first day. Patterns that only
behaviour shows are out of reach. The network starts as a projection on the leading public directions, so that similar
items have similar vectors before any training. A hidden layer, if any, is added to it and starts at zero.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec import draws
from fedrec.data.catalogue import Catalogue
from fedrec.towers.base import ItemTower, TowerConfig
from fedrec.towers.features import public_features

RIDGE = 1e-3
"""Ridge of the fit to vectors of another run, over the mean of the normal matrix's diagonal."""


class ContentConfig(TowerConfig):
    """Settings of the content tower."""

    features: int = Field(128, ge=1, le=4096)
    """Public feature columns: the leading directions of the public kernels."""
    hidden: int = Field(0, ge=0, le=4096)
    """Units of a hidden layer besides the linear map; 0 for none."""
    content_scale: float = Field(1.0, gt=0)
    """Initial root-mean-square length of the projected vectors."""


class ContentTower(ItemTower):
    """Linear, or linear plus one hidden layer."""

    name: ClassVar[str] = "content"
    Config: ClassVar[type[TowerConfig]] = ContentConfig
    corrected: ClassVar[bool] = True
    features: Tensor

    def __init__(self, config: ContentConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        self.register_buffer("features", public_features(catalogue, config.features), persistent=False)
        width = self.features.shape[1]
        self.linear = nn.Linear(width, config.dim, bias=False, device="cpu")
        self.linear.weight.data = config.content_scale * torch.eye(config.dim, width, device="cpu")
        self.hidden: nn.Module | None = None
        if config.hidden:
            first = nn.Linear(width, config.hidden, device="cpu")
            last = nn.Linear(config.hidden, config.dim, bias=False, device="cpu")
            first.weight.data = draws.normal(draws.keys(seed, torch.arange(config.hidden, device="cpu")), 0, width)
            nn.init.zeros_(first.bias)
            nn.init.zeros_(last.weight)
            self.hidden = nn.Sequential(first, nn.ReLU(), last)

    def begin(self, vectors: Tensor, known: Tensor) -> None:
        """Fit the linear map to the vectors by ridge regression; items without one get what their features say.

        The ridge pulls to the tower's own start, in directions that few items with a vector have.
        """
        features, start = self.features[known].double(), self.linear.weight.data.double()
        normal = features.mT @ features
        ridge = RIDGE * normal.diagonal().mean().clamp(min=1e-12)
        normal.diagonal().add_(ridge)
        total = features.mT @ vectors[known].double() + ridge * start.mT
        self.linear.weight.data = torch.linalg.solve(normal, total).mT.contiguous().to(self.linear.weight.dtype)

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        features = self.features[items]
        vectors: Tensor = self.linear(features)
        return vectors if self.hidden is None else vectors + self.hidden(features)
