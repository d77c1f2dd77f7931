"""Item biases from noisy sums of centred ratings: one private vector, then empirical Bayes against public features.

A user adds, for each rated item, w times the rating less the user's own expectation, and w; and once the user's own
level. All of it is one vector under one clip. The posterior of a bias is

    b_i = prior_i + (S_i - Q_i prior_i) / (Q_i + lambda_i),   lambda_i = (v m + s^2 / Q_i) / t^2

with S_i the sum, Q_i the sum of weights, v the variance of a rating, m the mean weight, s the noise and t^2 the
variance of biases around a regression on public features. Without noise and features it is the damped mean of
Funk 2006. t^2 follows from the released sums by EM, so shrinkage and prior are post-processing and cost nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 20
_LEAST = 1e-4  # of the variance of biases, in parts of the scale's unit squared
PENALTY = 3.0  # on a coefficient of a public feature


@dataclass(frozen=True)
class BiasEvidence:
    """What the released sums say about the biases of all items.

    Attributes:
        sums: (items,) noisy sums of weighted, centred ratings, in stars.
        weights: (items,) sums of weights, all above 0.
        noise_std: of `sums`.
        mean_weight: of an event.
        level_penalty: on the coefficient of popularity; that of a public feature is `PENALTY`.
    """

    sums: Tensor
    weights: Tensor
    noise_std: float
    mean_weight: float
    level_penalty: float = 1e-3

    def biases(self, features: Tensor, variance: float) -> Tensor:
        """Compute the posterior means (items,) float64, in stars.

        Args:
            features: (items, f) public columns that predict a bias; a constant and the popularity are added.
            variance: of a rating around its expectation.
        """
        weights = self.weights.double()
        level = weights.log()
        level = (level - level.mean()) / level.std().clamp(min=1e-9)
        columns = torch.cat([features.double(), level[:, None], torch.ones_like(level)[:, None]], 1)
        penalty = torch.full((columns.shape[1],), PENALTY, dtype=torch.float64, device=columns.device)
        penalty[-2], penalty[-1] = self.level_penalty, 1e-3
        found = self.sums.double() / weights
        error = (variance * self.mean_weight + self.noise_std**2 / weights) / weights  # variance of `found`
        spread = 0.15 * variance
        prior = torch.zeros_like(found)
        for _ in range(STEPS):
            precision = 1 / (error + spread)
            normal = columns.mT @ (columns * precision[:, None]) + torch.diag(penalty / spread)
            prior = columns @ torch.linalg.solve(normal, columns.mT @ (precision * found))
            gain = spread * precision
            second = (gain * (found - prior)).square() + spread * (1 - gain)
            spread = max(float(second.mean()), _LEAST * variance)
        gain = spread / (error + spread)
        return prior + gain * (found - prior)


def standard(values: Tensor) -> Tensor:
    """Return values (n,) with mean 0 and deviation 1; zeros where all are equal."""
    centred = values - values.mean()
    spread = float(centred.square().mean().sqrt())
    return centred / spread if spread > 1e-6 and math.isfinite(spread) else torch.zeros_like(values)
