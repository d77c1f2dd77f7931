"""`fedvlr`: items have public views of texts, pictures or sound, and each device mixes the views for its user.

Source: Li et al. 2026 (FedVLR, "personalized fusion"): a server fuses what pretrained encoders made of an item into
several views, and a device weighs them by a router of its own, over any federated backbone. Here the backbone is
`pfedrec`, and the views are those of each block of the catalogue and their mean; `fedrec data encode` adds blocks of
vectors. Different: views are the blocks' leading public directions and are not trained, so they cost no budget, and a
device rebuilds router and score function from its history in every round. An item that lacks a block has zeros there.
`fedrec.algorithms.local_training` names the other differences.

Items of two genres, and users of one each; the model keeps to the genre of a history:

>>> import random
>>> import polars as pl
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(60) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> items = pl.DataFrame({"item_id": range(30), "genre": [["odd"] if item % 2 else ["even"] for item in range(30)]})
>>> log = {"user_id": [user for user, _ in events], "item_id": [item for _, item in events]}
>>> from fedrec.algorithms.fedvlr import FedVLRConfig
>>> settings = FedVLRConfig(dim=8, rounds=8, learning_rate=0.2)
>>> run = fedrec.simulate(settings, fedrec.read_log(log, items), epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.local_examples import Examples
from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.algorithms.pfedrec import PFedRecModel
from fedrec.settings import Settings
from fedrec.towers.features import ById
from fedrec.towers.fusion import modalities


class FedVLRModel(PFedRecModel):
    """A table whose rows hold the trained vector (d) and those of V views; scored as `pfedrec`, by a layer on the row.

    The layer of the whole row is the layer of the user's own vectors, times the user's weight of each view.
    """

    kind: ClassVar[str] = "fedvlr"

    def rebuild(self, examples: Examples) -> Tensor:
        """Return the private vectors (B, w + 1) after joint steps from zero on a layer and the router's logits."""
        rows, dim, rate = examples.rows(self.table), self.settings["dim"], self.settings["rate"]
        blocks = rows.unflatten(2, (-1, dim))  # (B, m, 1 + V, d)
        trained, views = blocks[:, :, 0], blocks[:, :, 1:]
        layer, bias = rows.new_zeros(len(rows), dim), rows.new_zeros(len(rows), 1)
        logits = rows.new_zeros(len(rows), views.shape[2])
        gate = weights(logits)
        for _ in range(self.settings["steps"]):
            own = trained + (gate[:, None, :, None] * views).sum(2)
            error = rate * examples.error((own * layer[:, None, :]).sum(2) + bias)  # (B, m)
            pulls = ((views * layer[:, None, None, :]).sum(3) * error[:, :, None]).sum(1)  # (B, V)
            logits = logits - gate * (pulls - (gate * pulls).sum(1, keepdim=True))
            layer = layer - (error[:, :, None] * own).sum(1)
            bias = bias - error.sum(1, keepdim=True)
            gate = weights(logits)
        parts = torch.cat([torch.ones_like(bias), gate], 1)
        return torch.cat([(parts[:, :, None] * layer[:, None, :]).flatten(1), bias], 1)


def weights(logits: Tensor) -> Tensor:
    """Return the softmax of logits (B, V)."""
    weight = torch.exp(logits - logits.amax(1, keepdim=True))
    return weight / weight.sum(1, keepdim=True)


class FedVLRConfig(LocalConfig):
    """Settings of `fedvlr`."""

    view_scale: float = Field(1.0, gt=0)
    """Root-mean-square length of an item's vector in a view."""


class FedVLR(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "fedvlr"
    Config: ClassVar[type[Settings]] = FedVLRConfig
    config: FedVLRConfig

    def __init__(self, config: FedVLRConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self._views = self._new_views()  # here, since a round computes with another precision

    def model(self) -> type[LocalModel]:
        return FedVLRModel

    def _model(self, shared: Shared, popularity: Tensor) -> LocalModel:
        made = super()._model(shared, popularity)
        made.table = torch.cat([made.table, self._views], 1)
        made.settings["dim"] = self.dim
        return made

    def _new_views(self) -> Tensor:
        """The vectors of the views, side by side, (items, V d): each block's, and their mean."""
        _, parts = modalities(ById(self.facts.catalogue), self.dim)
        found = [pad(part, (0, self.dim - part.shape[1])) for part in parts]
        if len(found) > 1:
            found.append(torch.stack(found).mean(0))
        return self.config.view_scale * torch.cat(found, 1).to(self.facts.device)
