"""`state-space`: a bank of leaky averages of the history, each with its own decay, mixed by one matrix each.

A diagonal linear state-space model (Gu, Goel, Re 2022) with fixed decays: state k after event t is the mean of the
events up to t, an event of lag n weighing decay_k^n, and the prediction is sum_k state_k A_k. It starts as a
recency-weighted mean of the events' vectors: the untrained encoder already ranks what resembles the newest ones.
"""

from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from fedrec.sequences.base import EncoderConfig, SequenceEncoder


class StateSpaceConfig(EncoderConfig):
    """Settings of the state-space bank."""

    decays: tuple[float, ...] = (1.0, 0.95, 0.8, 0.5, 0.0)
    """Weight of an event, for each event after it: 1 averages the whole history, 0 takes the newest event."""
    start: float = Field(1.0, gt=0)
    """Sum of the bank's initial weights, which are equal."""

    @field_validator("decays")
    @classmethod
    def _are_decays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 <= decay <= 1 for decay in value):
            raise ValueError("decays are one or more numbers from 0 to 1")
        return value


class StateSpace(SequenceEncoder):
    """See the module."""

    name: ClassVar[str] = "state-space"
    Config: ClassVar[type[EncoderConfig]] = StateSpaceConfig
    weights: Tensor
    totals: Tensor

    def __init__(self, config: StateSpaceConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        decays = torch.tensor(config.decays, dtype=torch.float64, device="cpu")
        powers = (decays[:, None] ** torch.arange(length, device="cpu")).float()  # (K, length)
        later = torch.zeros_like(powers)  # weights of events after a position
        self.register_buffer("weights", torch.cat([later, powers], 1), persistent=False)
        self.register_buffer("totals", powers.double().cumsum(1).float(), persistent=False)
        each = config.start / len(config.decays)
        self.mixing = nn.Parameter(each * torch.eye(dim, device="cpu").repeat(len(config.decays), 1, 1))  # (K, d, d)

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        back = at[:, :, None] - torch.arange(inputs.shape[1], device=at.device)  # (B, T, L)
        bank = torch.arange(len(self.totals), device=at.device)[:, None]  # (K, 1)
        weights = self.weights[bank[:, :, None], (back + self.length)[:, None]]  # (B, K, T, L)
        means = (weights.flatten(1, 2) @ inputs).unflatten(1, weights.shape[1:3])  # (B, K, T, d)
        means = means / self.totals[bank, at[:, None]][..., None]
        found: Tensor = means.transpose(1, 2).flatten(2) @ self.mixing.flatten(
            0, 1
        )  # one product: no sum over the bank
        return found
