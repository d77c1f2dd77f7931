"""Local negatives for a ranking loss: half of them uniform, half by popularity, and how likely each item was drawn.

Uniform negatives alone hardly ever show a popular item of a large or skewed catalogue, so a loss learns too little of
the order among the items that lists consist of. Drawing popular ones too changes what the loss estimates; taking the
logarithm of an item's probability off its score restores that (Bengio and Senecal 2008, Yi et al. 2019). The score
that minimises the loss is then the logarithm of how likely an item comes next, whatever the negatives are drawn from.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.users import UserBatch

POPULAR = 0.5  # part of the draws that follow popularity


@dataclass(frozen=True)
class Negatives:
    """Draws from outside each user's events, a function of the user's own key.

    Attributes:
        items: what was drawn, (B, count) int64.
        likely: probability of each item of the catalogue under popularity, (items,) float64.
        own: probability of the user's own events under popularity, (B,) float64.
        outside: number of items outside the user's events, (B,); 0 where the user has every item.
    """

    items: Tensor
    likely: Tensor
    own: Tensor
    outside: Tensor

    def log_ratio(self, candidates: Tensor) -> Tensor:
        """The logarithm of how much likelier a candidate is drawn than under uniform draws.

        Args:
            candidates: items (B, C) int64; items of the user's own count as if they lay outside.

        Returns:
            (B, C) float32; 0 for a user who has every item, whose draws are uniform.
        """
        popular = self.likely[candidates] * self.outside[:, None] + self.own[:, None]
        popular = torch.where(self.outside[:, None] > 0, popular, 1.0)
        return (POPULAR * popular + (1 - POPULAR)).log().float()


def mixed_negatives(users: UserBatch, popularity: Tensor, count: int, stream: int) -> Negatives:
    """Every other draw in proportion to popularity; where that hits the user's own events, a uniform one.

    Where users have dislikes, these take the place of the uniform half (`UserBatch.negatives`). The density leaves that
    out: that a dislike counts for more is what is wanted of it.

    Args:
        users: their events are never drawn.
        popularity: of each item, >= 0 with a positive sum, (items,). It must be released.
        count: draws for each user, even.
        stream: number of the stream of randomness; the next one is used too.
    """
    mass = running_mass(popularity)
    likely = popularity.double() / mass[-1]
    owners, items = users.closed
    own = torch.zeros(len(users), dtype=torch.float64, device=users.device).index_add_(0, owners, likely[items])
    drawn = users.negatives(count, stream)
    popular = items_at(mass, draws.uniform(users.keys, stream + 1, (count + 1) // 2))
    drawn[:, ::2] = torch.where(users.has(popular), drawn[:, ::2], popular)
    return Negatives(drawn, likely, own, users.n_items - torch.bincount(owners, minlength=len(users)))


def running_mass(popularity: Tensor) -> Tensor:
    """Return the running sum of the popularity of items, (items,) float64; by the CPU, since CUDA's do not repeat."""
    return popularity.double().cpu().cumsum(0).to(popularity.device)


def items_at(mass: Tensor, uniform: Tensor) -> Tensor:
    """Return items drawn in proportion to popularity, of the shape of `uniform`, numbers in [0, 1).

    Args:
        mass: of `running_mass`, (items,).
        uniform: the draws.
    """
    return torch.searchsorted(mass, uniform * mass[-1], right=True).clamp(max=len(mass) - 1)
