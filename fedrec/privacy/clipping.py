"""The clip: one weight a user, on the user's whole contribution to a query.

Never per example, and never before something else is multiplied in: a user whose private vector moved with one more
rating moves every clipped example with it, and only a bound on the whole holds.

| the norm of a user's contribution | weight |
|---|---|
| at most the clip, zero included | 1, less the margin where the norm is within it |
| above the clip | clip / norm, less the margin |
| NaN, infinite, or so large that the weight is no normal float32 | 0: the user is left out |
"""

import torch
from torch import Tensor

from fedrec.privacy.queries import Contribution

MARGIN = 2.0**-20
"""Relative. Weights, products and casts to float32 err by 2^-24 each; the clipped norm stays below the clip."""


def clip_weights(contribution: Contribution, clip_norm: float) -> Tensor:
    """Weights (B,) float64 for which no user's weighted contribution has an L2 norm above `clip_norm`."""
    norms = contribution.norms().double()
    weights = (clip_norm * (1 - MARGIN) / norms).clamp(max=1.0)
    usable = norms.isfinite() & (weights >= torch.finfo(torch.float32).tiny)
    return torch.where(usable, weights, 0.0)
