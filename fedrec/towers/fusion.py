"""`fusion`: an item's vector from several modalities, late and gated: text, pictures, sound, numbers, labels.

Each block of the catalogue is a modality. Its leading public directions have a projection of their own, and a softmax
gate weighs the projections by item. A modality that an item lacks is masked out of its gate, so the others have the
whole weight. Compare the gated unit of Arevalo et al. 2017; here the gate is linear, since users train it under
privacy: `dim` + 1 parameters for each of `features` directions of a modality, and one more.

At the start all gates are equal, and each modality has directions of the vector to itself as far as `dim` suffices, so
that similar items have similar vectors before any training.
"""

import math
from functools import lru_cache
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.towers.base import ItemTower, TowerConfig
from fedrec.towers.features import ById, public_features

ROUNDING = 1e-5
"""Shorter rows of features, whose mean square is 1, are the rounding of zeros: the item lacks the modality."""


class FusionConfig(TowerConfig):
    """Settings of the fusion tower."""

    features: int = Field(32, ge=1, le=1024)
    """Public feature columns of each modality: the leading directions of its kernels."""
    content_scale: float = Field(1.0, gt=0)
    """Initial root-mean-square length of the vectors of items that lack nothing."""


class FusionTower(ItemTower):
    """Projections of the modalities, weighted by a gate."""

    name: ClassVar[str] = "fusion"
    Config: ClassVar[type[TowerConfig]] = FusionConfig
    known: Tensor

    def __init__(self, config: FusionConfig, catalogue: Catalogue, seed: int) -> None:
        super().__init__(config, catalogue, seed)
        self.modalities, parts = modalities(ById(catalogue), config.features)
        for place, features in enumerate(parts):
            self.register_buffer(f"features{place}", features, persistent=False)
        known = torch.stack([features.any(1) for features in parts], 1)  # (items, M)
        self.register_buffer("known", known, persistent=False)
        count = len(parts)
        self.projections, self.gates = nn.ModuleList(), nn.ModuleList()
        for place, features in enumerate(parts):
            width = features.shape[1]
            projection = nn.Linear(width, config.dim, bias=False, device="cpu")
            into = (torch.arange(width, device="cpu") * count + place) % config.dim
            rows = torch.arange(config.dim, device="cpu")[:, None] == into
            projection.weight.data = config.content_scale * math.sqrt(count) * rows.float()
            gate = nn.Linear(width, 1, device="cpu")
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)
            self.projections.append(projection)
            self.gates.append(gate)

    def weights(self, items: Tensor) -> Tensor:
        """Compute the gate of items (...,): (..., M), 0 for a modality that an item lacks, else summing to 1."""
        known = self.known[items]
        logits = torch.cat([gate(self._of(place, items)) for place, gate in enumerate(self.gates)], -1)
        return torch.softmax(torch.where(known, logits, -1e30), -1) * known

    def encode(self, items: Tensor, rows: Tensor) -> Tensor:
        projected = [projection(self._of(place, items)) for place, projection in enumerate(self.projections)]
        return (torch.stack(projected, -1) * self.weights(items)[..., None, :]).sum(-1)

    def _of(self, modality: int, items: Tensor) -> Tensor:
        features: Tensor = getattr(self, f"features{modality}")
        return features[items]


@lru_cache(maxsize=2)
def modalities(key: ById, width: int) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """Return the names of the blocks with a kernel, and their features (items, at most `width`), 0 where unknown."""
    names, parts = [], []
    for block in key.catalogue.blocks:
        alone = Catalogue(key.catalogue.ids, None, (block,))
        try:
            features = public_features(alone, width)
        except InputError:  # a block without a kernel, such as texts that share no word
            continue
        names.append(block.name)
        parts.append(features * (features.norm(dim=1, keepdim=True) > ROUNDING))
    if not parts:
        raise InputError("this tower needs public item data, and the catalogue has no feature block; use tower 'id'")
    return tuple(names), tuple(parts)
