"""The first round of `kernel-rank`: popularity, and with `stars` each item's mean rating in the same sum."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.rating_statistics import PENALTY, BiasEvidence
from fedrec.algorithms.stage import Stage, popularity_stage
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.popularity import denoise
from fedrec.kernels.public import PublicKernels
from fedrec.kernels.stars import rated_contribution, split_release, standardised
from fedrec.kernels.stars_plan import QUERY, VARIANCE
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.towers.features import public_features

STARS = "stars"
"""Name of the released mean ratings in the shared state, (items,)."""
COLUMNS = 64  # of the public content, most that predict a mean rating

Begin = Callable[[Shared, Tensor, PrivateSum], Shared]


def first_stage(
    facts: PublicFacts, share: float, begin: Begin, public: PublicKernels, scale: tuple[float, float] | None
) -> Stage:
    """Return the round. With a scale, the state that `begin` gets holds `STARS`.

    Args:
        facts: the public facts of the run.
        share: part of the privacy budget.
        begin: as in `popularity_stage`.
        public: kernels of the catalogue.
        scale: ends of the public scale of ratings; None for popularity alone.
    """
    if scale is None:
        return popularity_stage(facts, share, begin, public=public)
    items = len(facts.catalogue)

    def contribute(_shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        if users.ratings is None:
            raise InputError("algorithm.stars needs ratings, and the log has none; leave it out")
        return {QUERY: rated_contribution(users, scale)}

    def update(shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        release, ratings = split_release(sums[QUERY])
        popularity = denoise(release, public)
        return begin(shared | {STARS: mean_ratings(facts, popularity, ratings)}, popularity, release)

    return Stage(1, (SumQuery(QUERY, (2 * items,), 1.0, share),), contribute, update)


def mean_ratings(facts: PublicFacts, popularity: Tensor, ratings: PrivateSum) -> Tensor:
    """The mean rating of each item, shrunk by its noise, in units of `SPREAD`: (items,).

    Args:
        facts: the public facts of the run.
        popularity: what was made of the sum of popularity, (items,), all above 0.
        ratings: the sum of ratings, (items,).
    """
    features = torch.zeros(len(popularity), 0, device=facts.device)
    if facts.catalogue.blocks:
        features = public_features(facts.catalogue, COLUMNS).to(facts.device)
    weight = min(facts.expected_cohort / max(float(popularity.sum()), 1.0), 1.0)
    evidence = BiasEvidence(ratings.value, popularity, ratings.noise_std, weight, PENALTY)
    return standardised(evidence.biases(features, VARIANCE), popularity)


def unrated(facts: PublicFacts, scale: tuple[float, float] | None) -> Shared:
    """The part of a state before the round: all items are rated alike."""
    return {} if scale is None else {STARS: torch.zeros(len(facts.catalogue), device=facts.device)}


def kept(shared: Shared) -> Shared:
    """The part of a state that holds the mean ratings."""
    return {STARS: shared[STARS]} if STARS in shared else {}
