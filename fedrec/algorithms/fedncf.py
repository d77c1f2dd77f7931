"""`fedncf`: federated neural collaborative filtering: item vectors and a small network shared, user vectors private.

Sources: He et al. 2017 (NeuMF: a weighted product of a user's and an item's vector, and a network on both of another
pair of vectors, added); Perifanis and Efraimidis 2022 (FedNCF: devices train locally, the server averages item vectors
and network). Different here: a device keeps no user vector, but rebuilds it in every round.
`fedrec.algorithms.local_training` names the other differences.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("fedncf", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.settings import Settings

_NETWORK = -1  # the network's initial values are drawn as if it were the item before the first


class FedNCFModel(LocalModel):
    """An item's row: d entries for the product, d for the network; so is the private vector. Network (K,): the
    product's weights (d), a hidden layer (h, 2 d) with its bias (h), and its output (h)."""

    kind: ClassVar[str] = "fedncf"

    @property
    def private_size(self) -> int:
        return self.table.shape[1]

    def view(self, network: Tensor, rows: Tensor) -> Tensor:
        dim, by_item = self.table.shape[1] // 2, self._parts(network)[2]
        return torch.cat([rows[:, :, :dim], rows[:, :, dim:] @ by_item.mT], 2)  # (B, n, d + h)

    def scores(self, private: Tensor, network: Tensor, view: Tensor) -> Tensor:
        dim = self.table.shape[1] // 2
        product, by_user, _, bias, output = self._parts(network)
        mine = (by_user @ private[:, dim:, None])[:, :, 0] + bias  # (B, h)
        units = torch.relu(view[:, :, dim:] + mine[:, None])  # (B, n, h)
        factors = (product * private[:, :dim])[:, None] @ view[:, :, :dim].mT
        return (factors + output[:, None] @ units.mT)[:, 0]

    def _parts(self, network: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Of networks (B, K): product (B, d), by_user and by_item (B, h, d), bias (B, h), output (B, h)."""
        dim = self.table.shape[1] // 2
        hidden = (network.shape[1] - dim) // (2 * dim + 2)
        product, wide, bias, output = network.split([dim, 2 * dim * hidden, hidden, hidden], dim=1)
        by_user, by_item = wide.view(-1, 2, hidden, dim).unbind(1)
        return product, by_user, by_item, bias, output


class FedNCFConfig(LocalConfig):
    """Settings of `fedncf`."""

    clip_norm: float = Field(0.1, gt=0)
    """L2 clip on a user's whole change of item vectors and network."""
    private_steps: int = Field(5, ge=1)
    """Gradient steps that rebuild what is private."""
    private_learning_rate: float = Field(2.0, gt=0)
    """Their step size: larger ones swing out of bounds as the network grows, under noise most of all."""
    hidden: int = Field(16, ge=1, le=256)
    """Units of the network."""


class FedNCF(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "fedncf"
    Config: ClassVar[type[Settings]] = FedNCFConfig
    config: FedNCFConfig
    open_dim = 16
    open_rounds = (30, 3)
    open_learning_rate = (0.03, 0.03)
    open_popularity_share = 0.5

    @property
    def width(self) -> int:
        return 2 * self.dim

    def network(self) -> Tensor:
        dim, hidden = self.dim, self.config.hidden
        size = hidden * (2 * dim + 1)
        key = draws.keys(self.facts.seed, torch.tensor([_NETWORK], device=self.facts.device))
        drawn = draws.normal(key, 0, size)[0]
        wide, output = drawn.split([2 * dim * hidden, hidden])
        bias, product = drawn.new_zeros(hidden), drawn.new_ones(dim)
        return torch.cat([product, wide / dim**0.5, bias, output / hidden**0.5])

    def model(self) -> type[LocalModel]:
        return FedNCFModel
