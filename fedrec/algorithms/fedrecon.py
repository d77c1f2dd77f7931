"""`fedrecon`: matrix factorisation by federated reconstruction, with a stateless private user vector.

Source: Singhal et al. 2021: a device rebuilds its vector on one half of its examples (support) with the item vectors
fixed, then takes steps on the item vectors with the other half (query). What is different,
`fedrec.algorithms.local_training` says; the paper's matrix factorisation predicts ratings, here events with negatives.
A user has a bias beside the vector, and an item none: it would carry its noise into every score, where a vector's is
scaled down by those who have no use for it.
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
