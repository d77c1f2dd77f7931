"""`transformer`: blocks of causal self-attention and a feed-forward layer, as SASRec has them.

Source: SASRec (Kang and McAuley 2018), trained with the cross-entropy over all items (Klenitskiy and Vasilev 2023).
Different: layer norms come before each part (Xiong et al. 2020).

It has too many parameters for privacy at the size of MovieLens, and serves as the plain model that is compared with.
`attention` is the small one.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

from fedrec import draws
from fedrec.sequences.base import EncoderConfig, SequenceEncoder, picked

_START, _WEIGHTS, _DROPS = 0xA0, 0xA1, 0xA8


class TransformerConfig(EncoderConfig):
    """Settings of the transformer."""

    blocks: int = Field(2, ge=1, le=64)
    """Blocks of attention and feed-forward layer, one after the other."""
    heads: int = Field(2, ge=1)
    """Heads of each attention; they share the length of a vector, which is a multiple of it."""
    inner: float = Field(1.0, gt=0)
    """Units of the feed-forward layer, times the length of a vector."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Part of the numbers that a user's training drops, by the user's own key; for `objective` full and masked."""
    gain: float | None = Field(None, gt=0)
    """Factor on the events' vectors before the positions are added; left open, the root of their length."""


class Block(nn.Module):
    """One block: h + attention(norm(h)), then h + feed-forward(norm(h)).

    Args:
        config: of the encoder.
        dim: length d of a vector.
        causal: whether a position attends to earlier ones alone.
        keys: (1,) int64, of the initial values.
    """

    def __init__(self, config: TransformerConfig, dim: int, causal: bool, keys: Tensor) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = config.heads, causal, config.dropout
        inner = max(1, round(config.inner * dim))
        self.before, self.between = (nn.LayerNorm(dim, device="cpu") for _ in range(2))
        self.asked, self.mixed = nn.Linear(dim, 3 * dim, device="cpu"), nn.Linear(dim, dim, device="cpu")
        self.wide, self.narrow = nn.Linear(dim, inner, device="cpu"), nn.Linear(inner, dim, device="cpu")
        for place, layer in enumerate((self.asked, self.mixed, self.wide, self.narrow)):
            size = layer.weight.numel()
            drawn = draws.normal(keys, _WEIGHTS + place, size).view(layer.weight.shape)
            layer.weight.data = drawn * (0.5 / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, given: Tensor, use: Tensor | None, drop: "Drop") -> Tensor:
        """Compute (B, L, d) from (B, L, d).

        Args:
            given: (B, L, d).
            use: (B, L, L) or (B, 1, L) bool, which positions attend to which; None for all of a history without gaps.
            drop: what leaves out numbers in training.
        """
        batch, length, dim = given.shape
        asked = self.asked(self.before(given)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)  # (B, heads, L, d / heads)
        if use is None:
            found = scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        elif use.shape[1] < length:  # padding alone is left out
            found = scaled_dot_product_attention(query, key, value, attn_mask=use[:, None].expand(-1, 1, length, -1))
        else:
            logits = query @ key.mT / math.sqrt(dim // self.heads)
            found = torch.where(use[:, None], logits, -1e9).softmax(-1) @ value
        middle = given + drop(self.mixed(found.transpose(1, 2).reshape(batch, length, dim)))
        result: Tensor = middle + drop(self.narrow(drop(relu(self.wide(self.between(middle))))))
        return result


class Drop:
    """Dropout by keys: each call leaves out other numbers, the same ones whenever the key is the same.

    Args:
        rate: part of the numbers.
        keys: (B,) int64, of each user in one round; None outside training, where nothing is dropped. Padding behind a
            history does not change which of its numbers are dropped.
    """

    def __init__(self, rate: float, keys: Tensor | None) -> None:
        self.rate, self.keys, self.calls = rate, keys, 0

    def __call__(self, values: Tensor) -> Tensor:
        """Drop from values (B, ...)."""
        if self.keys is None or not self.rate:
            return values
        kept = draws.coins(self.keys, _DROPS + self.calls, values[0].numel(), 1 - self.rate)
        self.calls += 1
        return values * kept.view(values.shape).to(values.dtype).div_(1 - self.rate)


class Transformer(SequenceEncoder):
    """See the module."""

    name: ClassVar[str] = "transformer"
    Config: ClassVar[type[EncoderConfig]] = TransformerConfig
    causal: ClassVar[bool] = True

    def __init__(self, config: TransformerConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        if dim % config.heads:
            raise ValueError(f"dim = {dim} is no multiple of encoder.heads = {config.heads}")
        keys = draws.keys(seed, torch.arange(config.blocks + 1, device="cpu"))
        self.gain = config.gain or math.sqrt(dim)
        start = draws.normal(keys[-1:], _START, (length + 1) * dim).view(length + 1, dim)
        self.positions = nn.Parameter(0.02 * start)
        self.blocks = nn.ModuleList(Block(config, dim, self.causal, keys[[place]]) for place in range(config.blocks))
        self.after = nn.LayerNorm(dim, device="cpu")

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        place = torch.arange(inputs.shape[1], device=inputs.device)
        use = (place <= place[:, None]) & mask[:, None, :]
        return picked(self.run(inputs, use), at)

    def together(self, inputs: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        return self.run(inputs, None, keys)  # padding is behind every event

    def run(self, inputs: Tensor, use: Tensor | None, keys: Tensor | None = None) -> Tensor:
        """Apply positions and blocks to (B, L, d); `use` as for a block, `keys` as for `Drop`."""
        drop = Drop(self.config.dropout, keys)
        place = torch.arange(inputs.shape[1], device=inputs.device).clamp(max=self.length)  # padding has no place
        hidden = drop(self.gain * inputs + self.positions[place])
        for block in self.blocks:
            hidden = block(hidden, use, drop)
        result: Tensor = self.after(hidden)
        return result
