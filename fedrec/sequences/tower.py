"""The sequence tower: item vectors, and an encoder that predicts in the space of these vectors (tied weights)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedrec.sequences.base import SequenceEncoder
from fedrec.sequences.decoder import CodeDecoder
from fedrec.sequences.items import ItemVectors


class SequenceTower(nn.Module):
    """All that users train together.

    Args:
        items: vectors of items.
        encoder: of sequences of such vectors.
        decoder: from predictions to codes, of a generative model; None predicts a vector of an item.
    """

    def __init__(self, items: ItemVectors, encoder: SequenceEncoder, decoder: CodeDecoder | None = None) -> None:
        super().__init__()
        self.items, self.encoder, self.decoder = items, encoder, decoder

    @property
    def size(self) -> int:
        """Number of shared parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def taste(
    encoder: Callable[[Tensor, Tensor, Tensor], Tensor],
    vectors: Tensor,
    mask: Tensor,
    at: Tensor,
    ordered: Tensor | None = None,
) -> Tensor:
    """Predict from histories, those without a known order included.

    The history of a user without an order counts as one event, the mean of its vectors. So nothing depends on an order
    that nobody knows, for any encoder.

    Args:
        encoder: of the tower, or what calls it with other parameters.
        vectors: (B, L, d) of the events, oldest first.
        mask: (B, L) bool.
        at: (B, T) int64; the prediction uses the events up to there.
        ordered: (B,) bool, false where the order of the events is unknown; None where every order is known.

    Returns:
        (B, T, d).
    """
    predicted = encoder(vectors, mask, at)
    if ordered is None:
        return predicted
    means = running_means(vectors, mask, at).flatten(0, 1)[:, None]  # (B T, 1, d)
    alone = torch.ones(len(means), 1, dtype=torch.bool, device=at.device)
    first = torch.zeros(len(means), 1, dtype=torch.int64, device=at.device)
    return torch.where(ordered[:, None, None], predicted, encoder(means, alone, first).view(predicted.shape))


def running_means(vectors: Tensor, mask: Tensor, at: Tensor) -> Tensor:
    """Average the events (B, L, d) up to each position `at` (B, T): (B, T, d)."""
    sums = (vectors * mask[:, :, None]).cumsum(1)
    counts = mask.to(vectors.dtype).cumsum(1)
    some = at[:, :, None].expand(-1, -1, vectors.shape[2])
    return sums.gather(1, some) / counts.gather(1, at)[:, :, None].clamp(min=1)
