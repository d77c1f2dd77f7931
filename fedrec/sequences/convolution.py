"""`convolution`: causal filters over the newest events, one a channel, mixed by one matrix.

A depthwise separable causal convolution (Caser, Tang and Wang 2018; NextItNet, Yuan et al. 2019). It starts as a
recency-weighted mean of the newest events' vectors.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec.sequences.base import EncoderConfig, SequenceEncoder


class ConvolutionConfig(EncoderConfig):
    """Settings of the convolution."""

    width: int = Field(16, ge=1)
    """Events that a filter covers."""
    decay: float = Field(0.8, gt=0, le=1)
    """Initial weight of an event, for each event after it."""


class Convolution(SequenceEncoder):
    """See the module."""

    name: ClassVar[str] = "convolution"
    Config: ClassVar[type[EncoderConfig]] = ConvolutionConfig

    def __init__(self, config: ConvolutionConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        weights = config.decay ** torch.arange(config.width, device="cpu").double()
        self.filters = nn.Parameter((weights / weights.sum()).float()[:, None].repeat(1, dim))  # (width, d)
        self.mixing = nn.Parameter(torch.eye(dim, device="cpu"))

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        back = at[:, :, None] - torch.arange(self.config.width, device=at.device)  # (B, T, width)
        place = back.clamp(min=0).flatten(1)[:, :, None].expand(-1, -1, self.dim)
        covered = inputs.gather(1, place).unflatten(1, back.shape[1:]) * (back >= 0)[:, :, :, None]
        found: Tensor = (covered * self.filters).sum(2) @ self.mixing
        return found
