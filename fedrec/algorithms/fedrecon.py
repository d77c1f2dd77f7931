"""`fedrecon`: matrix factorisation by federated reconstruction, with a stateless private user vector.

Source: Singhal et al. 2021: a device rebuilds its vector on one half of its examples (support) with the item vectors
fixed, then takes steps on the item vectors with the other half (query). What is different,
`fedrec.algorithms.local_training` says; the paper's matrix factorisation predicts ratings, here events with negatives.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.settings import Settings


class FedReconModel(LocalModel):
    """Item vectors with a bias each, the last entry of a row; private: the user's vector."""

    kind: ClassVar[str] = "fedrecon"

    def scores(self, private: Tensor, network: Tensor, view: Tensor) -> Tensor:
        return (private[:, None] @ view[:, :, :-1].mT)[:, 0] + view[:, :, -1]

    @property
    def private_size(self) -> int:
        return self.table.shape[1] - 1


class FedReconConfig(LocalConfig):
    """Settings of `fedrecon`."""

    clip: float = Field(0.1, gt=0)
    """L2 clip on a user's whole change of the item rows."""


class FedRecon(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "fedrecon"
    Config: ClassVar[type[Settings]] = FedReconConfig
    halves = True
    bias = True
    open_rate = (0.03, 0.03)
    open_popularity_share = 0.5

    @property
    def width(self) -> int:
        return self.dim + 1

    def model(self) -> type[LocalModel]:
        return FedReconModel
