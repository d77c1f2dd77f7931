"""How far weights that were fitted to few users move by chance, and what is left of them beyond that.

The weights start as a public model: items are taken by popularity. Where users have no other preference, weights still
move, for two reasons. The first is the noise of the sums, whose size is public. The second is which users took part:
few of them fit any feature a little. Synthetic users, drawn from the released popularity, measure the second:
they have no taste by construction, and their gradients come from the algorithm's own code.

With clipped gradient `psi` and score `g` of a user, the covariance of the users' mean gradient is E[psi psi'] / users,
and its slope along the weights is E[psi g'] (the generalised information equality, Newey and McFadden 1994, section 5).
Both run through the steps of the descent. A group of weights then keeps the part of its way that exceeds what chance
explains, by the positive-part rule of James and Stein 1961. All of it is post-processing, free of budget.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.kernels.descent import Descent

DEVIATIONS = 2.0  # of the chi-square distribution, up to which a group counts as chance
LEAST = 1e-100  # variance of chance; a smaller one cannot be inverted in float64
RIDGE = 1e-4  # of the mean variance, for directions that no synthetic user takes


@dataclass(frozen=True)
class Chance:
    """The movement of weights by chance, where users have no taste.

    Attributes:
        users: expected number of users with a gradient.
        part: the same as a part of the denominator of a mean gradient, in (0, 1].
        spread: E[psi psi'], of clipped gradients, (K, K).
        slope: E[psi g'], how a mean clipped gradient answers to the weights, (K, K).
    """

    users: float
    part: float
    spread: Tensor
    slope: Tensor

    @classmethod
    def of(cls, scores: Tensor, cut: Tensor, users: float, part: float) -> "Chance":
        """From gradients of users without a taste, before the clip and after it, (S, K) each."""
        scores, cut, count = scores.double(), cut.double(), max(1, len(scores))
        return cls(users, part, cut.T @ cut / count, cut.T @ scores / count)

    def covariance(self, descent: Descent, noise: float) -> Tensor:
        """Covariance of the average of the weights about their start, after all steps, (K, K) float64.

        Args:
            descent: the plan of steps.
            noise: standard deviation of each entry of that average that comes from the noise of the sums.
        """
        unit = torch.eye(len(self.spread), dtype=torch.float64, device=self.spread.device)
        state = descent.begin(torch.zeros_like(unit))
        for step in range(descent.rounds):
            state |= descent.moved(state, self.part * (self.slope @ state["parameters"] + unit), step)
        answer = state["average"]
        by_users = answer @ self.spread @ answer.T / max(self.users, 1.0)
        return (by_users + by_users.T) / 2 + noise**2 * unit


def evident(moved: Tensor, covariance: Tensor, groups: list[slice]) -> Tensor:
    """Return the part of each group's movement that exceeds chance.

    Args:
        moved: weights less their start, (K,).
        covariance: of `moved` if it were chance, (K, K).
        groups: which weights are judged together; others keep all of their way.

    Returns:
        (K,) each group of `moved` times its factor in [0, 1].
    """
    kept = moved.clone()
    for group in groups:
        way, block = moved[group].double(), covariance[group, group]
        count = len(way)
        ridge = RIDGE * block.diagonal().mean().clamp(min=LEAST)
        block = block + ridge * torch.eye(count, dtype=torch.float64, device=way.device)
        evidence = float(way @ torch.linalg.solve(block, way))
        kept[group] = moved[group] * beyond_chance(evidence, count)
    return kept


def beyond_chance(energy: float, count: int) -> float:
    """Return the part of an energy that chance does not explain, in [0, 1): James and Stein 1961, with a margin.

    Args:
        energy: sum of squares of numbers, each over the variance that chance gives it.
        count: how many numbers.
    """
    chance = count + DEVIATIONS * (2 * count) ** 0.5
    return max(0.0, 1 - chance / max(energy, 1e-12))
