"""`cofedrec`: items fall into categories, and users into two groups for each: those drawn to it, and the others.

Source: He et al. 2024 (CoFedRec, "co-clustering"): in each round the server clusters the item vectors, draws one
category, compares the users' vectors in it, and averages over those who are alike; a contrastive loss keeps the items
of a category together. Different: the paper's server compares the item vectors that every device uploads, hence sees
every history. Here a device computes from its own history which categories it is drawn to
(`fedrec.algorithms.grouped`), for all categories in every round, and the server sees sums. The contrastive loss
depends on common item vectors alone, so the server takes its step, on a public sample of items.
`fedrec.algorithms.local_training` names the other differences.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(60) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> from fedrec.algorithms.cofedrec import CoFedRecConfig
>>> settings = CoFedRecConfig(dim=8, rounds=8, learning_rate=0.2)
>>> run = fedrec.simulate(settings, data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import Shared
from fedrec.algorithms.grouped import Grouped, GroupedConfig, GroupedModel, unit_rows
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import Settings

_PASSES = 10  # of k-means
_SAMPLE = 512  # items of a contrastive step
_TEMPERATURE, _BASE = 0.1, 0.5  # the paper's


class CoFedRecModel(GroupedModel):
    """A user is in the group of a category, or not."""

    kind: ClassVar[str] = "cofedrec"

    @classmethod
    def parts(cls, likeness: Tensor) -> Tensor:
        return (likeness > 0).to(likeness.dtype)


class CoFedRecConfig(GroupedConfig):
    """Settings of `cofedrec`."""

    contrast: float = Field(0.005, ge=0)
    """Step size of the contrastive loss on the common item vectors, times the server's learning rate; 0 for none."""


class CoFedRec(Grouped):
    """See the module."""

    name: ClassVar[str] = "cofedrec"
    Config: ClassVar[type[Settings]] = CoFedRecConfig
    config: CoFedRecConfig
    kind = CoFedRecModel

    def directions(self, common: Tensor) -> Tensor:
        """The categories' mean vectors."""
        return unit_rows(categories(common, self.config.groups, self.facts.seed)[1])

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        after = super()._descend(shared, sums, step)
        if not self.config.contrast:
            return after
        parameters = after["parameters"].clone()
        table = parameters[: len(self.facts.catalogue) * self.width].view(-1, self.width)
        common = table[:, : self.dim]
        chosen = draws.keys(self.facts.seed + step, torch.arange(len(table), device=table.device)).argsort()[:_SAMPLE]
        labels, _ = categories(common - common.mean(0), self.config.groups, self.facts.seed)
        slope = contrast_slope(common[chosen], labels[chosen])
        common[chosen] -= self.config.contrast * self.learning_rate * slope
        return after | {"parameters": parameters}


def categories(items: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cluster items by Lloyd's k-means on unit vectors, from a public draw of first centres.

    Args:
        items: (items, d).
        count: categories.
        seed: public.

    Returns:
        Each item's category (items,) int64, and the mean vectors (count, d), zero for an empty one.
    """
    unit = unit_rows(items.double())
    first = draws.keys(seed, torch.arange(len(unit), device=unit.device)).argsort()[:count]
    centres = unit.new_zeros(count, unit.shape[1])
    centres[: len(first)] = unit[first]
    labels = torch.zeros(len(unit), dtype=torch.int64, device=unit.device)
    for _ in range(_PASSES):
        labels = (unit @ centres.mT).argmax(1)
        centres = unit_rows(torch.zeros_like(centres).index_add_(0, labels, unit))
    return labels, centres.to(items.dtype)


def contrast_slope(items: Tensor, labels: Tensor) -> Tensor:
    """Return the slope (n, d) of the supervised contrastive loss (Khosla et al. 2020) of items (n, d) by category."""
    with torch.enable_grad():
        moved = items.detach().double().requires_grad_()
        unit = moved / moved.norm(dim=1, keepdim=True).clamp(min=1e-9)
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        logits = (unit @ unit.mT / _TEMPERATURE).masked_fill(itself, -torch.inf)
        alike = (labels[:, None] == labels[None, :]) & ~itself
        chance = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(~alike, 0.0)
        loss = -(_TEMPERATURE / _BASE) * (chance.sum(1) / alike.sum(1).clamp(min=1)).mean()
        (slope,) = torch.autograd.grad(loss, moved)
    return slope.to(items.dtype)
