"""Mean ratings of items, released with popularity in one vector under one clip, and the kernel that compares them.

A user with n items adds two parts, w x and w r for each item: x is 1, and r is the rating less the user's own mean, on
the public scale from -1 to 1; w is about 1 / sqrt(n). The public `SHARE` divides the squared norm between the parts,
and a user whose ratings differ by more than the usual `ENERGY` is scaled down as a whole, to norm 1 at most. So the
neighbour who leaves takes one vector of norm 1, as in a sum of popularity alone, and the two sums have one price.

The mean of an item is the ratio of its two noisy sums, shrunk to what public features predict by as much as noise and
few ratings demand (`fedrec.algorithms.rating_statistics`); that is post-processing. Only a kernel is made of it: people
differ in how much they care for what others think of an item.
"""

import torch
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import DenseMap
from fedrec.kernels.stars_plan import PLACES, SPREAD, WIDTH, parts
from fedrec.privacy.queries import PrivateSum, SparseContribution


def rated_contribution(users: UserBatch, scale: tuple[float, float]) -> SparseContribution:
    """Both parts of each user, (2 items,): popularity, then ratings. An event without a rating adds nothing to these.

    Args:
        users: with ratings or without.
        scale: lowest and highest rating of the public scale.
    """
    once = users.without_repeats()
    owners, lengths = once.owners, once.lengths.double()
    rest = _beyond_own_mean(once, scale)
    energy = torch.zeros_like(lengths).index_add_(0, owners, rest * rest)
    popular, rated = parts()
    norm = (popular**2 + rated**2 * energy / lengths.clamp(min=1)).sqrt().clamp(min=1)
    weight = (1 / (norm * lengths.clamp(min=1).sqrt()))[owners]
    values = torch.cat([popular * weight, rated * weight * rest]).float()
    positions = torch.cat([once.items, once.n_items + once.items])
    return SparseContribution(torch.cat([owners, owners]), positions, values, len(users), (2 * users.n_items,))


def _beyond_own_mean(users: UserBatch, scale: tuple[float, float]) -> Tensor:
    """Ratings less each user's own mean, in halves of the scale, (E,) float64; 0 where unknown.

    The mean counts one further rating of the scale's middle, so that one rating alone says something.
    """
    if users.ratings is None:
        return torch.zeros(len(users.items), dtype=torch.float64, device=users.device)
    low, high = scale
    known = ~users.ratings.isnan()
    placed = (users.ratings.double().nan_to_num().clamp(low, high) - (low + high) / 2) / ((high - low) / 2)
    placed = torch.where(known, placed, 0.0)
    zeros = torch.zeros(len(users), dtype=torch.float64, device=users.device)
    total = zeros.index_add(0, users.owners, placed)
    count = zeros.index_add(0, users.owners, known.double())
    return torch.where(known, placed - (total / (count + 1))[users.owners], 0.0)


def split_release(release: PrivateSum) -> tuple[PrivateSum, PrivateSum]:
    """The sums of popularity and of ratings, (items,) each, in the units of unit-norm histories."""
    items, (popular, rated) = len(release.value) // 2, parts()
    value, noise = release.value, release.noise_std
    return PrivateSum(value[:items] / popular, noise / popular), PrivateSum(value[items:] / rated, noise / rated)


def stars_map(stars: Tensor) -> DenseMap:
    """The kernel of released mean ratings: overlapping bumps along the scale.

    Args:
        stars: (items,) how far the mean rating exceeds that of the average item, in `SPREAD`.
    """
    places = torch.linspace(*PLACES, dtype=torch.float64, device=stars.device)
    return DenseMap(torch.exp(-(((stars.double()[:, None] - places) / WIDTH) ** 2) / 2).float())


def standardised(means: Tensor, popularity: Tensor) -> Tensor:
    """Mean ratings (items,) in halves of the scale, less the popular average, in units of `SPREAD`: (items,) float32.

    The unit is public, not the deviation of what was found: where noise hides all ratings, all items are alike.
    """
    average = (means * popularity.double()).sum() / popularity.double().sum()
    return ((means - average) / SPREAD).clamp(PLACES[0], PLACES[1]).float()
