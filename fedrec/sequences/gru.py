"""`gru`: a gated recurrent unit (GRU4Rec, Hidasi et al. 2016), written out so that each user has a gradient.

It starts as a leaky average of the events' vectors: the gates see only their biases.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec.sequences.base import EncoderConfig, SequenceEncoder, picked
from fedrec.sequences.recurrence import Recurrence


class GRUConfig(EncoderConfig):
    """Settings of the recurrent unit."""

    update: float = Field(0.2, gt=0, lt=1)
    """Initial part of the state that each event replaces."""


class GRU(SequenceEncoder):
    """See the module."""

    name: ClassVar[str] = "gru"
    Config: ClassVar[type[EncoderConfig]] = GRUConfig
    fill: ClassVar[float] = 0.0  # a step costs as much for one user as for many

    def __init__(self, config: GRUConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        zero, eye = torch.zeros(dim, dim, device="cpu"), torch.eye(dim, device="cpu")
        self.of_input = nn.Parameter(torch.cat([zero, zero, eye], 1))  # (d, 3d): update, reset, candidate
        self.of_state = nn.Parameter(torch.zeros(dim, 3 * dim, device="cpu"))
        gate = math.log(config.update / (1 - config.update))
        bias = torch.zeros(3 * dim, device="cpu")
        bias[:dim] = gate
        self.bias = nn.Parameter(bias)

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        given = inputs @ self.of_input + self.bias  # (B, L, 3d)
        state = torch.zeros_like(inputs[:, 0])
        states = []
        for step in range(inputs.shape[1]):
            update, reset, candidate = given[:, step].split(self.dim, -1)
            old_update, old_reset, old = (state @ self.of_state).split(self.dim, -1)
            gate = torch.sigmoid(update + old_update)
            new = torch.tanh(candidate + torch.sigmoid(reset + old_reset) * old)
            state = (1 - gate) * state + gate * new
            states.append(state)
        return picked(torch.stack(states, 1), at)

    def together(self, inputs: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        states: Tensor = Recurrence.apply(inputs @ self.of_input + self.bias, self.of_state)
        return states
