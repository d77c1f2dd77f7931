"""The loss of a generative sequence tower: minus the log-probability of the target's codes, level by level.

Every level is a softmax over the codes that may follow the target's prefix, so there are no negatives.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.sequence_examples import Examples
from fedrec.algorithms.sequence_gradients import NEVER, Slopes
from fedrec.algorithms.sequence_items import leading_directions
from fedrec.algorithms.sequence_settings import SequenceConfig
from fedrec.rowwise import bmm
from fedrec.sequences.codes import distinct, residual_codes
from fedrec.sequences.decoder import CodeDecoder
from fedrec.sequences.tower import SequenceTower
from fedrec.sequences.trie import CodeTrie


def code_decoder(config: SequenceConfig, dim: int, facts: PublicFacts) -> tuple[CodeDecoder, Tensor]:
    """Make a decoder, untrained, and the centroids of the codes (levels, size, dim), from public vectors."""
    codes, books = residual_codes(leading_directions(config, dim, facts), config.levels, config.codes, facts.seed)
    codes = distinct(codes)
    last = books.new_zeros(int(codes[:, -1].max()) + 1, dim)
    return CodeDecoder(codes, [*books, last]), books


@dataclass(frozen=True)
class Paths:
    """The loss of a decoder; see `fedrec.sequences.decoder`.

    Attributes:
        scale: of the inner products.
        trie: of the catalogue.
        priors: for each level (prefixes before it, size), from `CodeTrie.priors`.
    """

    scale: float
    trie: CodeTrie
    priors: list[Tensor]

    @classmethod
    def of(cls, scale: float, trie: CodeTrie, level: Tensor, sizes: list[int]) -> "Paths":
        """Make the loss for a popularity whose logarithm is `level` (items,)."""
        return cls(scale, trie, trie.priors(level, sizes, NEVER))

    def slopes(self, tower: SequenceTower, _vectors: Tensor, predicted: Tensor, examples: Examples) -> Slopes:
        """As `fedrec.algorithms.sequence_gradients.Output`."""
        decoder = tower.decoder
        assert decoder is not None
        weights = self.scale * examples.valid / examples.valid.sum(1, keepdim=True).clamp(min=1)  # (B, T)
        gate, slope = torch.ones_like(predicted), torch.zeros_like(predicted)
        own: dict[str, Tensor] = {}
        before: list[tuple[str, Tensor]] = []  # prefixes so far, and their codes (B, T)
        above = torch.zeros_like(examples.targets)
        for place, (table, level, prior) in enumerate(zip(decoder.tables, self.trie.levels, self.priors, strict=True)):
            code = self.trie.codes[examples.targets, place]
            each = table.detach().expand(len(predicted), -1, -1)  # (B, size, d)
            state = predicted * gate
            error = (self.scale * bmm(state, each.mT) + prior[above]).softmax(2)
            error = error.scatter_add(2, code[:, :, None], -torch.ones_like(weights)[:, :, None])
            error = error * weights[:, :, None]
            own[f"decoder.tables.{place}"] = bmm(error.mT, state)
            of_state = bmm(error, each)
            slope = slope + of_state * gate
            for name, at in before:
                own[name].scatter_add_(1, at[:, :, None].expand_as(of_state), of_state * predicted)
            if place < len(decoder.prefixes):
                prefix = decoder.prefixes[place].detach()
                before.append((f"decoder.prefixes.{place}", code))
                own[before[-1][0]] = predicted.new_zeros(len(predicted), *prefix.shape)
                gate = gate + prefix[code]
            above = level.of_items[examples.targets]
        return Slopes(slope, None, own)
