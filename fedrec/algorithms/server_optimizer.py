"""The server's step down a mean gradient: plain, or Adam, whose moments are functions of private sums alone.

Source: Kingma and Ba 2015; on the server of a federation, Reddi et al. 2021 (FedAdam).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

FIRST, SECOND, FLOOR = 0.9, 0.99, 1e-8

MOMENTS = frozenset({"first moment", "second moment"})
"""Names of the optimizer's part of the shared state, which no device needs."""


def start_moments(value: Tensor) -> dict[str, Tensor]:
    """The optimizer's part of the shared state for parameters like `value`."""
    return {"first moment": torch.zeros_like(value), "second moment": torch.zeros_like(value)}


class AdamStep(NamedTuple):
    """The moments after a gradient, and their unbiased estimates: `mean` of the gradients, `spread` of each entry."""

    first: Tensor
    second: Tensor
    mean: Tensor
    spread: Tensor


def adam(gradient: Tensor, first: Tensor, second: Tensor, step: int, decays: tuple[float, float]) -> AdamStep:
    """Adam's moments after one more gradient.

    Args:
        gradient: the mean over users.
        first, second: the moments before it, of the gradient's shape.
        step: steps before this one.
        decays: rates at which the two moments forget, in [0, 1).
    """
    slow, slower = decays
    first = slow * first + (1 - slow) * gradient
    second = slower * second + (1 - slower) * gradient**2
    spread = (second / (1 - slower ** (step + 1))).sqrt() + FLOOR
    return AdamStep(first, second, first / (1 - slow ** (step + 1)), spread)


@dataclass(frozen=True)
class ServerOptimizer:
    """kind: `sgd` is plain gradient descent. learning_rate: step size."""

    kind: Literal["adam", "sgd"]
    learning_rate: float

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
            return value - self.learning_rate * gradient, {}
        before = moments["first moment"], moments["second moment"]
        first, second, mean, spread = adam(gradient, *before, step, (FIRST, SECOND))
        if blocks:
            parts = spread.split(list(blocks))
            spread = torch.cat([part.square().mean().sqrt().expand_as(part) for part in parts])
        return value - self.learning_rate * mean / spread, {"first moment": first, "second moment": second}
