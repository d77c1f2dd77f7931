"""Item vectors of groups of users: what GPFedRec and CoFedRec share.

Both papers average each user's item vectors over similar users only. Their servers find these users by comparing the
item vectors that each device uploads, and an upload contains the device's history. Here the server sees sums alone. An
item has one vector for everybody and one for each group. A device computes from its own history how far it belongs to
each group, and ranks by the common vectors plus its part of those of the groups. The part of a user in the sum of a
group is the same, so two users share what they learn as far as they belong to the same groups.

A group is a direction in the space of the common item vectors. A user belongs to it as far as the mean vector of the
own events, less that of all items, points there.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Shared
from fedrec.algorithms.local_examples import Examples
from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.algorithms.pfedrec import PFedRecModel


class GroupedModel(PFedRecModel):
    """A table whose rows hold the common vector (d) and those of G groups; directions (1 + G, d), the first the centre.

    The private vector is that of a linear layer on the whole row, so it is scored as `pfedrec`: the layer on an item's
    vector, times the user's part of each group.
    """

    directions: Tensor

    @classmethod
    @abstractmethod
    def parts(cls, likeness: Tensor) -> Tensor:
        """Return how far users belong to each group, (B, G), from the cosines (B, G) with its direction."""

    def placed(self, directions: Tensor) -> "GroupedModel":
        """Return this model with its directions (1 + G, d)."""
        self.directions = directions
        return self

    def belonging(self, rows: Tensor, examples: Examples) -> Tensor:
        """Return the weights (B, 1 + G) of the common vector, which is 1, and of the groups.

        Args:
            rows: (B, m, w) of the examples' items.
            examples: of B users.
        """
        dim = self.directions.shape[1]
        events = examples.events.to(rows.dtype)
        own = (events[:, :, None] * (rows[:, :, :dim] - self.directions[0])).sum(1)  # (B, d)
        own = own / own.square().sum(1, keepdim=True).sqrt().clamp(min=1e-9)
        likeness = (own[:, None, :] * self.directions[1:]).sum(2)
        some = (events.sum(1, keepdim=True) > 0).to(rows.dtype)
        return torch.cat([torch.ones_like(some), some * self.parts(likeness)], 1)

    def rebuild(self, examples: Examples) -> Tensor:
        """Return the private vectors (B, w + 1) after gradient steps from zero on a layer."""
        rows, dim = examples.rows(self.table), self.directions.shape[1]
        weights = self.belonging(rows, examples)
        own = (weights[:, None, :, None] * rows.unflatten(2, (-1, dim))).sum(2)  # (B, m, d)
        layer, bias = own.new_zeros(len(own), dim), own.new_zeros(len(own), 1)
        for _ in range(self.settings["steps"]):
            error = examples.error((own * layer[:, None, :]).sum(2) + bias) * self.settings["rate"]
            layer = layer - (error[:, :, None] * own).sum(1)
            bias = bias - error.sum(1, keepdim=True)
        return torch.cat([(weights[:, :, None] * layer[:, None, :]).flatten(1), bias], 1)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"directions": self.directions}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "GroupedModel":
        made = cls(tensors["table"], tensors["network"], tensors["popularity"], manifest)
        return made.placed(tensors["directions"])


class GroupedConfig(LocalConfig):
    """Settings of both."""

    groups: int = Field(4, ge=1, le=64)
    """Groups of users; the table has so many vectors an item beside the common one."""
    own_items: bool = False
    """A device ranks by its own copy of the item vectors, tuned like in a round, as in the papers."""


class Grouped(LocalTraining):
    """`pfedrec` with item vectors of groups."""

    config: GroupedConfig
    kind: ClassVar[type[GroupedModel]]

    @abstractmethod
    def directions(self, common: Tensor) -> Tensor:
        """Return the groups' directions (G, d), unit norm, from the common item vectors (items, d) less their mean."""

    def model(self) -> type[LocalModel]:
        return self.kind

    def own_steps(self) -> int:
        return self.config.local_steps if self.config.own_items else 0

    @property
    def width(self) -> int:
        return self.dim * (1 + self.config.groups)

    def initial(self) -> Shared:
        start = super().initial()
        table = start["parameters"][: len(self.facts.catalogue) * self.width].view(-1, self.width)
        table[:, self.dim :] = 0.0  # groups begin alike
        return start

    def _model(self, shared: Shared, popularity: Tensor) -> LocalModel:
        made = super()._model(shared, popularity)
        assert isinstance(made, GroupedModel)
        common = made.table[:, : self.dim]
        centre = common.mean(0, keepdim=True)
        return made.placed(torch.cat([centre, self.directions(common - centre)]))


def unit_rows(rows: Tensor) -> Tensor:
    """Return rows (n, d) scaled to norm 1; rows of zeros stay."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
