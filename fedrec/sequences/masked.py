"""`masked`: blocks of attention in both directions, which learn events that are hidden from them, as in BERT4Rec.

Source: BERT4Rec (Sun et al. 2019). Different: the blocks of `transformer`. A prediction of what comes next is that of a
hidden event behind the newest one, so it depends on past events alone here, too.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedrec import draws
from fedrec.sequences.base import EncoderConfig, picked
from fedrec.sequences.transformer import Transformer, TransformerConfig

_HIDDEN = 0xA2


class Masked(Transformer):
    """See the module."""

    name: ClassVar[str] = "masked"
    Config: ClassVar[type[EncoderConfig]] = TransformerConfig
    causal: ClassVar[bool] = False
    hides: ClassVar[bool] = True

    def __init__(self, config: TransformerConfig, dim: int, length: int, seed: int) -> None:
        super().__init__(config, dim, length, seed)
        drawn = draws.normal(draws.keys(seed, torch.tensor([0], device="cpu")), _HIDDEN, dim)
        self.hidden = nn.Parameter(0.02 * drawn[0])  # (d,) the vector of an event that is hidden

    def encode(self, inputs: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        batch, length, dim = inputs.shape
        asked = at.shape[1]
        each = inputs[:, None].expand(-1, asked, -1, -1).flatten(0, 1)  # (B T, L, d)
        known = (mask[:, None] & (torch.arange(length, device=at.device) <= at[:, :, None])).flatten(0, 1)
        behind = at.flatten()[:, None] + 1  # the place of the hidden event
        place = torch.arange(length + 1, device=at.device)
        one = torch.where(known[:, :, None], each, 0.0)
        one = torch.cat([one, one.new_zeros(len(one), 1, dim)], 1)
        one = torch.where((place == behind)[:, :, None], self.hidden, one)
        there = place <= behind
        found = self.run(one, there[:, None].expand(-1, length + 1, -1))
        return picked(found, behind).view(batch, asked, dim)

    def revealed(self, inputs: Tensor, mask: Tensor, hide: Tensor, keys: Tensor) -> Tensor:
        """Predict events from all others, in training.

        Args:
            inputs: (B, L, d) vectors of the events, L at most `length` + 1.
            mask: (B, L) bool, false after a user's last event.
            hide: (B, L) bool, which events are hidden.
            keys: (B,) int64, seeds of dropout.

        Returns:
            (B, L, d); the predictions of hidden events are at their places, and the others mean nothing.
        """
        given = torch.where(hide[:, :, None], self.hidden, inputs)
        return self.run(given, None if bool(mask.all()) else mask[:, None], keys)
