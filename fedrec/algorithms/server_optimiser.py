"""The server's step down a mean gradient: plain, or Adam, whose moments are functions of private sums alone.

Source: Kingma and Ba 2015; on the server of a federation, Reddi et al. 2021 (FedAdam).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

FIRST, SECOND, FLOOR = 0.9, 0.99, 1e-8

MOMENTS = frozenset({"first moment", "second moment"})
"""Names of the optimiser's part of the shared state, which no device needs."""


def start_moments(value: Tensor) -> dict[str, Tensor]:
    """The optimiser's part of the shared state for parameters like `value`."""
    return {"first moment": torch.zeros_like(value), "second moment": torch.zeros_like(value)}


@dataclass(frozen=True)
class ServerOptimiser:
    """kind: `sgd` is plain gradient descent. rate: step size."""

    kind: Literal["adam", "sgd"]
    rate: float

    def step(
        self, value: Tensor, gradient: Tensor, moments: Mapping[str, Tensor], step: int, blocks: Sequence[int] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(the parameters after one step down the gradient, the moments that changed).

        Args:
            value: the parameters; the gradient has their shape.
            gradient: the mean over users.
            moments: a state that contains what `start_moments` or the last step returned.
            step: steps before this one.
            blocks: lengths along the first dimension within which all entries share one spread, for gradients that
                are mostly noise. An entry's own second moment then measures noise alone, and dividing by it would move
                every entry equally far, those of few users like the others.
        """
        if self.kind == "sgd":
            return value - self.rate * gradient, {}
        first = FIRST * moments["first moment"] + (1 - FIRST) * gradient
        second = SECOND * moments["second moment"] + (1 - SECOND) * gradient**2
        unbiased = first / (1 - FIRST ** (step + 1))
        spread = (second / (1 - SECOND ** (step + 1))).sqrt() + FLOOR
        if blocks:
            parts = spread.split(list(blocks))
            spread = torch.cat([part.square().mean().sqrt().expand_as(part) for part in parts])
        return value - self.rate * unbiased / spread, {"first moment": first, "second moment": second}
