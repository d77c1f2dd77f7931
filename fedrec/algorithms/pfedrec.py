"""`pfedrec`: a personal score function on each device, item vectors trained together.

Source: Zhang et al. 2023 (PFedRec, "dual personalization"): no user vector; the score function, one linear layer on
the item vector, is the user's own; it takes its steps first, then the item vectors do. Different here: the score
function is rebuilt from the history in every round (fine-tuning steps from zero), since a device may lose its state at
any time. A device ranks by the shared item vectors, not by the copy that it has tuned on its own examples.
`fedrec.algorithms.local_training` names the other differences.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("pfedrec", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from typing import ClassVar

from torch import Tensor

from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.settings import Settings


class PFedRecModel(LocalModel):
    """Item vectors; private: the weights of a linear layer, and its bias."""

    kind: ClassVar[str] = "pfedrec"

    def scores(self, private: Tensor, network: Tensor, view: Tensor) -> Tensor:
        return (private[:, None, :-1] @ view.mT)[:, 0] + private[:, -1:]

    @property
    def private_size(self) -> int:
        return self.table.shape[1] + 1


class PFedRecConfig(LocalConfig):
    """Settings of `pfedrec`."""

    own_items: bool = False
    """The paper's second personalisation: a device ranks by its own copy of the item vectors, tuned like in a round."""


class PFedRec(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "pfedrec"
    Config: ClassVar[type[Settings]] = PFedRecConfig
    config: PFedRecConfig

    def own_steps(self) -> int:
        return self.config.local_steps if self.config.own_items else 0

    def model(self) -> type[LocalModel]:
        return PFedRecModel
