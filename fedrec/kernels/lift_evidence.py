"""How much a noisy co-occurrence can teach: the mean squared lift of its pairs, with an error. Post-processing.

The lift of a pair says by which part two items occur together more often than their popularity predicts. Half of its
square, averaged over pairs, is to second order the mutual information between two items of a history. Where it is
small, nothing that is fitted to pairs can order a list better than popularity does.

The squares of what is left of a release contain the noise too, whose variance is public, so it is subtracted. Each
item first gets a factor of its own: pairs count long histories more than popularity does, and that is no taste.
"""

import math

import torch
from torch import Tensor

from fedrec.kernels.denoise import sampling_variance


def squared_lift(
    release: Tensor, noise_std: float, popularity: Tensor, users: float, copies: float = 1.0
) -> tuple[float, float]:
    """Estimate the mean squared lift of pairs, each weighted by how precisely the release shows it.

    Args:
        release: noisy sum of unit-norm pair vectors, (head, head), symmetric, zero diagonal.
        noise_std: standard deviation of its noise.
        popularity: of the head items, (head,) > 0.
        users: expected number of users in the sum.
        copies: pairs that share a number of a sketch, and so its noise.

    Returns:
        The estimate, which may be below zero, and its standard error where there is no lift; infinite where the
        release shows no pairs at all.
    """
    release, popularity = release.double(), popularity.double()
    head = len(popularity)
    expected = popularity[:, None] * popularity[None]
    expected.fill_diagonal_(0.0)
    level = (release * expected).sum() / (expected * expected).sum()
    expected = level.clamp(min=0) * expected
    variance = noise_std**2 + sampling_variance(release, expected, users)
    precision = expected * expected / variance  # of the lift of a pair, (head, head)
    inverse = torch.linalg.inv(torch.diag(precision.sum(1) + 1.0) + precision)  # of the items' factors, normal a priori
    factors = inverse @ (expected * (release - expected) / variance).sum(1)
    row, column = torch.triu_indices(head, head, 1, device=release.device)
    left = (release - expected * (1 + factors[:, None] + factors[None]))[row, column]
    expected, variance, precision = (matrix[row, column] for matrix in (expected, variance, precision))
    fitted = precision * (inverse[row, row] + inverse[column, column] + 2 * inverse[row, column])
    chance = variance * (1 - fitted)  # of what is left, where there is no lift
    weight = precision / variance
    mass = float((weight * expected * expected).sum())
    if mass <= 0:
        return 0.0, math.inf
    estimate = float((weight * (left * left - chance)).sum()) / mass
    return estimate, math.sqrt(2 * copies * float((precision * precision).sum())) / mass
