"""`fedrecon`: matrix factorisation by federated reconstruction, with a stateless private user vector.

Source: Singhal et al. 2021: a device rebuilds its vector on one half of its examples (support) with the item vectors
fixed, then takes steps on the item vectors with the other half (query). `fedrec.algorithms.local_training` names the
differences. The paper's matrix factorisation predicts ratings, here events with negatives. A user has a vector and a
bias, an item has a vector only: the noise of an item's bias would enter every score in full, while a device scales the
noise of an item's vector by its own.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("fedrecon", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from typing import ClassVar

from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.algorithms.pfedrec import PFedRecModel
from fedrec.settings import Settings


class FedReconModel(PFedRecModel):
    """Item vectors; private: the user's vector, and a bias. What is scored is what `pfedrec` scores."""

    kind: ClassVar[str] = "fedrecon"


class FedReconConfig(LocalConfig):
    """Settings of `fedrecon`."""


class FedRecon(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "fedrecon"
    Config: ClassVar[type[Settings]] = FedReconConfig
    halves = True

    def model(self) -> type[LocalModel]:
        return FedReconModel
