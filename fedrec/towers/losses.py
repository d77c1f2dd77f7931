"""Losses over a target and its sampled negatives, one number a user.

BPR: Rendle et al. 2009. Softmax with sampled negatives: Bengio and Senecal 2003, without the correction (negatives are
uniform, so it is a constant). Binary cross-entropy: He et al. 2017 (NCF). Squared error: on ratings, the targets
alone; on events, 1 for the target and 0 for its negatives.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus


def softmax(scores: Tensor) -> Tensor:
    """Compute the cross-entropy of the target among target and negatives."""
    return scores.logsumexp(-1) - scores[..., 0]


def bpr(scores: Tensor) -> Tensor:
    """Compute the mean over the negatives of -log sigmoid(target - negative)."""
    return softplus(scores[..., 1:] - scores[..., :1]).mean(-1)


def bce(scores: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy over target and negatives."""
    return (softplus(scores).sum(-1) - scores[..., 0]) / scores.shape[-1]


def squared(scores: Tensor) -> Tensor:
    """Compute the mean of (1 - target)^2 and negative^2."""
    return ((1 - scores[..., 0]).square() + scores[..., 1:].square().sum(-1)) / scores.shape[-1]


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": softmax,
    "bpr": bpr,
    "bce": bce,
    "squared": squared,
}
"""Losses by name: each maps scores (..., T, 1 + N), the target first, to losses (..., T)."""


def user_losses(name: str, scores: Tensor, labels: Tensor | None, valid: Tensor) -> Tensor:
    """Compute each user's mean loss over the valid targets, (...,).

    Args:
        name: a key of `LOSSES`.
        scores: (..., T, 1 + N), the target first.
        labels: (..., T) ratings, whose squared error is then the loss; None without.
        valid: (..., T) bool.
    """
    losses = LOSSES[name](scores) if labels is None else (labels - scores[..., 0]).square()
    losses = torch.where(valid, losses, 0.0)
    return losses.sum(-1) / valid.sum(-1).clamp(min=1)
