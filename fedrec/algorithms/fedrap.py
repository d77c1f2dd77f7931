"""`fedrap`: an item's vector is a common one plus one of the user's own.

Source: Li et al. 2024 (FedRAP, "additive personalization"): score = layer . (common + own), where the own vectors and
the linear layer stay on the device; the common ones are kept sparse (L1), and the two apart (a negative squared
distance), with weights that grow over the rounds (here that of the L1 term). Different: a device rebuilds the own
vectors from its history, since it may lose its state at any time. They are zero but for the device's own examples. The
L1 term depends on the common vectors alone, so the server takes its step (soft thresholding).
`fedrec.algorithms.local_training` names the other differences. The published figures leak (docs/leak.md): own vectors
remember which items were negatives.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Shared
from fedrec.algorithms.local_examples import Examples
from fedrec.algorithms.local_training import LocalConfig, LocalModel, LocalTraining
from fedrec.algorithms.pfedrec import PFedRecModel
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import Settings

_GROWTH = 10  # rounds after which the threshold has 76 % of its value: tanh(round / 10)


class FedRAPModel(PFedRecModel):
    """Common item vectors; private: a linear layer, its bias, and own vectors of the items of the device's examples."""

    kind: ClassVar[str] = "fedrap"

    def rebuild(self, examples: Examples) -> Tensor:
        """Return the private layers (B, w + 1) after joint steps from zero on them and the own vectors."""
        return self._both(examples)[0]

    def own_scores(self, private: Tensor, examples: Examples) -> Tensor:
        """Return the scores (B, m) of the examples' items under common plus own vectors."""
        return self.pair_scores(private, self.network, examples.rows(self.table) + self._both(examples)[1])

    def tune(self, private: Tensor, examples: Examples, steps: int, rate: float) -> tuple[Tensor, Tensor]:
        """Step along the common vectors with the own ones fixed: rows (B, m, w), and no network."""
        rows, own, some = examples.rows(self.table), self._both(examples)[1], there(examples)
        for _ in range(steps):
            error = examples.error(self.pair_scores(private, self.network, rows + own))
            rows = rows - rate * some * (error[:, :, None] * private[:, None, :-1] + self._apart(rows - own))
        return rows, self.network.repeat(len(private), 1)

    def _both(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """The layer and bias (B, w + 1), and the own vectors (B, m, w), zero where there is no example."""
        rows, rate = examples.rows(self.table), self.settings["rate"]
        some = there(examples)
        private, own = rows.new_zeros(len(rows), rows.shape[2] + 1), torch.zeros_like(rows)
        for _ in range(self.settings["steps"]):
            whole, layer = rows + own, private[:, None, :-1]
            error = examples.error((whole * layer).sum(2) + private[:, -1:])
            slope = torch.cat([(error[:, :, None] * whole).sum(1), error.sum(1, keepdim=True)], 1)
            own = own - self.settings["own_rate"] * some * (error[:, :, None] * layer + self._apart(own - rows))
            private = private - rate * slope
        return private, own

    def _apart(self, difference: Tensor) -> Tensor:
        """Slope of minus the mean squared distance, in the vector that the difference starts from."""
        return difference * (-2.0 * self.settings["apart"] / difference.shape[2])


def there(examples: Examples) -> Tensor:
    """Return 1 at the places (B, m, 1) of examples, 0 past their end."""
    return (examples.items >= 0)[:, :, None].to(examples.examples.dtype)


class FedRAPConfig(LocalConfig):
    """Settings of `fedrap`."""

    apart: float = Field(0.01, ge=0, le=0.1)
    """Weight of the term that keeps own and common vectors apart."""
    sparse: float = Field(0.001, ge=0)
    """Soft threshold of the common vectors after a round, once it has grown, times the server's learning rate."""


class FedRAP(LocalTraining):
    """See the module."""

    name: ClassVar[str] = "fedrap"
    Config: ClassVar[type[Settings]] = FedRAPConfig
    config: FedRAPConfig

    def model(self) -> type[LocalModel]:
        return FedRAPModel

    def own_steps(self) -> int:
        return 1

    def _model(self, shared: Shared, popularity: Tensor) -> LocalModel:
        made = super()._model(shared, popularity)
        made.settings["apart"] = self.config.apart
        return made

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        after = super()._descend(shared, sums, step)
        threshold = self.config.sparse * self.learning_rate * math.tanh((step + 1) / _GROWTH)
        parameters = after["parameters"]
        return after | {"parameters": parameters.sign() * (parameters.abs() - threshold).clamp(min=0)}
