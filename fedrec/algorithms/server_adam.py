"""Adam on the server, for algorithms whose users send gradients or deltas: moments are functions of private sums alone.

Source: Kingma and Ba 2015; on the server of a federation, Reddi et al. 2021 (FedAdam).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST, SECOND, FLOOR = 0.9, 0.99, 1e-8

MOMENTS = frozenset({"first moment", "second moment"})
"""Names of the optimiser's part of the shared state, which no device needs."""


def start(value: Tensor) -> dict[str, Tensor]:
    """The optimiser's part of the shared state for parameters like `value`."""
    return {"first moment": torch.zeros_like(value), "second moment": torch.zeros_like(value)}


def step(
    value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], round: int, rate: float, blocks: Sequence[int] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """(the parameters after one step down the gradient, the optimiser's next state); round counts from 0.

    blocks: lengths along the first dimension within which all entries share one spread, for gradients that are mostly
    noise: an entry's own second moment then measures noise alone, and dividing by it would take every entry equally
    far, those that hardly a user contributes to like the others.
    """
    first = FIRST * state["first moment"] + (1 - FIRST) * gradient
    second = SECOND * state["second moment"] + (1 - SECOND) * gradient**2
    unbiased = first / (1 - FIRST ** (round + 1))
    spread = (second / (1 - SECOND ** (round + 1))).sqrt() + FLOOR
    if blocks:
        parts = spread.split(list(blocks))
        spread = torch.cat([part.square().mean().sqrt().expand_as(part) for part in parts])
    return value - rate * unbiased / spread, {"first moment": first, "second moment": second}
