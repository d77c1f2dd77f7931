"""`gpfedrec`: a personal score function, and item vectors averaged over a graph of similar users.

Source: Zhang et al. 2024 (GPFedRec, "graph-guided personalization"). Different: the paper's server compares the item
vectors that every device uploads, hence sees every history. Here the graph is a kernel: the weight of an edge is the
product of what two devices compute from their own histories (`fedrec.algorithms.grouped`), and the server sees sums.
The paper's score function has three hidden layers, here it is linear as in `pfedrec`. The pull to the graph's vectors
is the start of a device's copy. `fedrec.algorithms.local_training` names the other differences.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(60) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> from fedrec.algorithms.gpfedrec import GPFedRecConfig
>>> settings = GPFedRecConfig(dim=8, rounds=8, learning_rate=0.2)
>>> run = fedrec.simulate(settings, data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from typing import ClassVar

import torch
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.fedvlr import weights
from fedrec.algorithms.grouped import Grouped, GroupedConfig, GroupedModel, unit_rows
from fedrec.settings import Settings

SHARPNESS = 4.0
"""Of the softmax over the cosines."""


class GPFedRecModel(GroupedModel):
    """A user belongs to all groups, the nearest ones most; the parts sum to 1."""

    kind: ClassVar[str] = "gpfedrec"

    @classmethod
    def parts(cls, likeness: Tensor) -> Tensor:
        return weights(SHARPNESS * likeness)


class GPFedRecConfig(GroupedConfig):
    """Settings of `gpfedrec`."""


class GPFedRec(Grouped):
    """See the module."""

    name: ClassVar[str] = "gpfedrec"
    Config: ClassVar[type[Settings]] = GPFedRecConfig
    kind = GPFedRecModel

    def directions(self, common: Tensor) -> Tensor:
        """Random directions, the same in every round."""
        index = torch.arange(self.config.groups, device=common.device)
        return unit_rows(draws.normal(draws.keys(self.facts.seed + 1, index), 0, self.dim).to(common.dtype))
