"""`attention`: one self-attention block over the history, small enough for private training.

SASRec (Kang, McAuley 2018) with one head of one block, and a learned bias for each lag in place of positions (T5,
Raffel et al. 2020), so that an event that leaves the window changes no other weight. Different: no layer norm, no
dropout, no feed-forward layer. It starts as a recency-weighted mean of the events' vectors.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedrec.sequences.base import EncoderConfig, SequenceEncoder, lags


class AttentionConfig(EncoderConfig):
    """Settings of the attention block."""

    lags: int = Field(48, ge=1)
    """Events back that have a bias of their own; older ones share the last."""
    decay: float = Field(0.9, gt=0, le=1)
    """Initial weight of an event, for each event after it."""


class Attention(SequenceEncoder):
    """See the module."""

    name: ClassVar[str] = "attention"
    Config: ClassVar[type[EncoderConfig]] = AttentionConfig

    def __init__(self, config: AttentionConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        eye = torch.eye(dim, device="cpu")
        self.query = nn.Parameter(eye.clone())
        self.key = nn.Parameter(eye.clone())
        self.value = nn.Parameter(eye.clone())
        self.out = nn.Parameter(eye.clone())
        self.bias = nn.Parameter(math.log(config.decay) * torch.arange(config.lags, device="cpu").float())

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        lag, back = lags(at, inputs.shape[1])
        use = back & mask[:, None, :]
        asked = inputs.gather(1, at[:, :, None].expand(-1, -1, self.dim)) @ self.query  # (B, T, d)
        logits = asked @ (inputs @ self.key).mT / math.sqrt(self.dim)  # (B, T, L)
        logits = logits + self.bias[lag.clamp(max=self.config.lags - 1)]
        weights = torch.where(use, logits, -1e9).softmax(-1) * use
        found: Tensor = weights @ (inputs @ self.value) @ self.out
        return found
