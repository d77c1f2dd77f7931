"""`kernel-rank`: rank with public item kernels, a private co-occurrence and a few dozen private ranking weights.

Three ideas make it strong under user-level privacy. Public kernels between items (genres, years, words, encoder
vectors), averaged over the user's own history with recency weights ON the device, cost no budget. The weights that turn
those averages into a score are few, so learning them under privacy costs almost nothing. One release of time-local
co-occurrence among head items, denoised against the public content, adds the collaborative signal.

Stages: popularity; co-occurrence; then the ranking weights by private gradient descent on a softmax loss over each
user's newest training items against negatives from everything outside the user's training items. Scores start as the
logarithm of popularity, and gradients alone move them from there.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 10)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("kernel-rank", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_features import KernelFeatures
from fedrec.algorithms.kernel_rank_settings import (
    NETWORK_STRENGTH,
    PAIRS_STRENGTH,
    SHARE_NAMES,
    TUNED_USERS,
    UNITS,
    USERS_PER_WEIGHT,
    KernelRankConfig,
    chosen_shares,
    default_head,
    linear_rate,
)
from fedrec.algorithms.kernel_rank_weights import GRADIENT_CLIP, RankingWeights, parameter_count
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import LaggedPairs, cooccurrence_query
from fedrec.kernels.descent import Descent
from fedrec.kernels.model import KernelModel
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings

DOUBT = 2.0  # standard deviations that the estimate of users' lengths is lowered by


class KernelRank(Staged):
    """See the module."""

    name: ClassVar[str] = "kernel-rank"
    Config: ClassVar[type[Settings]] = KernelRankConfig
    fixed_clips = {"weights": "its step size and its test for chance are made for gradients of norm 1"}
    config: KernelRankConfig

    def __init__(self, config: KernelRankConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.items = len(facts.catalogue)
        self.features = KernelFeatures(config, facts)
        content = bool(self.features.public.maps)
        strength = facts.strength / TUNED_USERS
        self.shares = chosen_shares(config, strength, content=content)
        self.head_items = min(self.items, config.head_items or default_head(facts.users, facts.mu))
        wanted = strength >= PAIRS_STRENGTH if config.cooccurrence is None else config.cooccurrence
        self.cooccurrence = wanted and self.head_items > 1
        count = self.features.count(cooccurrence=self.cooccurrence)
        network = strength >= NETWORK_STRENGTH and facts.users >= USERS_PER_WEIGHT * UNITS * count
        network = network and not (facts.private and not content)  # there, each weight must show evidence
        self.hidden = config.hidden if config.hidden is not None else UNITS if network else 0
        rounds = 80 if self.hidden else 40 if content or self.cooccurrence else 0
        self.weight_rounds = rounds if config.rounds is None else config.rounds
        self.learning_rate = config.learning_rate or (4.0 if self.hidden else linear_rate(strength))
        descent = Descent(self.weight_rounds, self.learning_rate, config.momentum)
        self.weights = RankingWeights(config, facts, self.features, self.hidden, descent)

    @property
    def chosen(self) -> dict[str, Any]:
        names = ("head_items", "hidden", "learning_rate", "cooccurrence")
        shares = dict(zip(SHARE_NAMES, self.shares, strict=True))
        return {name: getattr(self, name) for name in names} | shares | {"rounds": self.weight_rounds}

    @property
    def server_only(self) -> frozenset[str]:
        names = frozenset({"velocity", "average", "start", "noise", "root events"})
        return names if self.cooccurrence else names | {"head"}

    @property
    def stages(self) -> tuple[Stage, ...]:
        popularity, weights, cooccurrence = self.shares
        if not self.cooccurrence:  # the two others divide its share in proportion to theirs
            rest = popularity + weights
            popularity, weights, cooccurrence = popularity / rest, weights / rest, 0.0
        if not self.weight_rounds:
            popularity, weights = popularity + weights, 0.0
        stages = [popularity_stage(self.facts, popularity, self._begin, public=self.features.public)]
        if self.cooccurrence:
            stages.append(Stage(1, (cooccurrence_query(self.head_items, cooccurrence),), self._pairs, self._lift))
        return (*stages, Stage(self.weight_rounds, self._gradient_sum(weights), self._gradient, self._descend))

    def _gradient_sum(self, share: float) -> tuple[SumQuery, ...]:
        """The sum of a round of descent; `share` of the budget is for all rounds together."""
        if not self.weight_rounds:
            return ()
        size = parameter_count(self.features.count(cooccurrence=self.cooccurrence), self.hidden)
        return (SumQuery("weights", (size,), GRADIENT_CLIP, share / self.weight_rounds),)

    def initial(self) -> Shared:
        return self.weights.start({"popularity": torch.ones(self.items, device=self.facts.device)})

    def _begin(self, _shared: Shared, popularity: Tensor, release: PrivateSum) -> Shared:
        """The first `head_items` items by popularity, and the mean root of a user's number of events.

        A user with n events adds 1 / sqrt(n) to each of n items, so the sum over the items is that of the roots. Its
        noise is Gaussian, of standard deviation noise_std * sqrt(items). Noise must not make a cold log look warm, so
        the mean is the lower end of a confidence interval, two standard deviations below the estimate.
        """
        top = popularity.argsort(descending=True, stable=True)[: self.head_items]
        root = (release.value.sum() - DOUBT * release.noise_std * self.items**0.5) / self.facts.expected_cohort
        return self.weights.start({"popularity": popularity, "head": top, "root events": root.clamp(min=0.0)})

    def _pairs(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        location = torch.full((self.items,), -1, device=users.device)
        location[shared["head"]] = torch.arange(self.head_items, device=users.device)
        return {"cooccurrence": LaggedPairs(users, location, self.head_items, skip=self.config.targets)}

    def _lift(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        return self.weights.start(shared | self.features.lift(shared, sums["cooccurrence"]))

    def _gradient(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        return {"weights": DenseContribution(self.weights.gradients(shared, users))}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        total, cohort = sums["weights"], self.facts.expected_cohort
        return shared | self.weights.descent.step(shared, total.value / cohort, total.noise_std / cohort, step)

    def release(self, shared: Shared) -> KernelModel:
        weights, network = self.weights.trained_weights(shared)
        if network:
            network["scales"] = shared["scales"]
        return KernelModel(self.features.space(shared), weights / shared["scales"], network).by(self.name)
