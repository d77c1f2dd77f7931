"""`kernel-rank`: rank with public item kernels, a private co-occurrence and a few dozen private ranking weights.

Three ideas make it strong under user-level privacy. Public kernels between items (genres, years, words, encoder
vectors), averaged over the user's own history with recency weights ON the device, cost no budget. The weights that turn
those averages into a score are few, so learning them under privacy costs almost nothing. One release of time-local
co-occurrence among head items, denoised against the public content, adds the collaborative signal. A gate raises the
features of kernels that predicted the person's own last steps.

Stages: popularity; co-occurrence; then the ranking weights by private gradient descent on a softmax loss over each
user's newest training items against negatives from everything outside the user's training items. Scores start as the
logarithm of popularity, and gradients alone move them from there. Where the budget is small and a first part of the
co-occurrence shows that it teaches nothing, the rest of the budget asks for popularity again
(`fedrec.algorithms.popularity_again`). Without privacy the stages are others: `fedrec.algorithms.kernel_rank_raw`.

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

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_features import KernelFeatures
from fedrec.algorithms.kernel_rank_plan import (
    AGAIN,
    ALL,
    DECIDED,
    GRADIENT_CLIP,
    NEVER,
    NOT_OFFERED,
    OR_POPULARITY,
    PAIRS,
    SENT_BITS,
    TUNED_USERS,
    KernelRankPlan,
)
from fedrec.algorithms.kernel_rank_raw import RawRank
from fedrec.algorithms.kernel_rank_settings import (
    LEAST_LIFT,
    MOST_LIFT,
    PILOT_SHARE,
    SHARE_NAMES,
    KernelRankConfig,
    chosen_shares,
    linear_rate,
)
from fedrec.algorithms.kernel_rank_stars import first_stage, kept, unrated
from fedrec.algorithms.kernel_rank_weights import RankingWeights, weighs
from fedrec.algorithms.popularity_again import COUNTED, NOISE, PopularityAgain, counted
from fedrec.algorithms.stage import Stage, Staged
from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import LaggedPairs, cooccurrence_query, triangle
from fedrec.kernels.descent import Descent
from fedrec.kernels.gates import gated_columns
from fedrec.kernels.lift_evidence import squared_lift
from fedrec.kernels.model import KernelModel
from fedrec.kernels.pair_sketch import SketchedPairs, pairs_of
from fedrec.kernels.popularity import denoise
from fedrec.privacy.fixed_point import MOST_BITS
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

PILOT = ("pilot", "pilot noise")  # names in the state of the first part of the co-occurrence, and of its noise
WEIGHTS = ("weights", f"weights{OR_POPULARITY}")  # names of the sum of a round of descent
OF_THE_HEAD = ("head_items", "hidden", "cooccurrence", "learning_rate")
"""Settings that a run without privacy has no use for, unless it is to do what a private one does."""
DOUBT = 2.0  # standard deviations that the estimate of users' lengths is lowered by


class KernelRank(Staged):
    """See the module."""

    name: ClassVar[str] = "kernel-rank"
    Config: ClassVar[type[Settings]] = KernelRankConfig
    fixed_clips = dict.fromkeys(WEIGHTS, "its step size and its test for chance are made for gradients of norm 1")
    config: KernelRankConfig

    def __init__(self, config: KernelRankConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.items = len(facts.catalogue)
        self.features = KernelFeatures(config, facts)
        content = bool(self.features.public.maps)
        strength = facts.strength / TUNED_USERS
        self.shares = chosen_shares(config, strength, content=content)
        self.plan = KernelRankPlan.of(
            config,
            items=self.items,
            users=facts.users,
            mu=facts.mu,
            kernels=len(self.features.public.maps) + (config.stars is not None),
            own=self.features.own,
            decays=len(config.decays),
            gated=len(gated_columns(config.decays)) if config.gates else 0,
        )
        self.head_items, self.cooccurrence = self.plan.head_items, self.plan.cooccurrence
        self.hidden, self.weight_rounds = self.plan.hidden, self.plan.rounds
        self.learning_rate = config.learning_rate or (4.0 if self.hidden else linear_rate(strength))
        descent = Descent(self.weight_rounds, self.learning_rate, config.momentum)
        self.weights = RankingWeights(config, facts, self.features, self.hidden, descent, self.plan.weighing)
        raw = not facts.private and all(getattr(config, name) is None for name in OF_THE_HEAD)
        self.raw = RawRank(config, facts, self.features) if raw else None
        """The stages of a run without privacy; None with privacy, or where a setting asks for those of the head."""
        if self.raw is not None:
            self.head_items, self.cooccurrence, self.hidden = self.raw.head, True, 0
            self.weight_rounds = self.raw.rounds
        self.pilot_share = min(PILOT_SHARE, self.shares[2] / 2)
        self.again = PopularityAgain(facts, decided=DECIDED) if self.plan.again else None
        """The choice between co-occurrence and more popularity; None where the plan does not offer it."""

    @property
    def chosen(self) -> dict[str, Any]:
        names = ("head_items", "hidden", "learning_rate", "cooccurrence")
        shares = dict(zip(SHARE_NAMES, self.shares, strict=True))
        return {name: getattr(self, name) for name in names} | shares | {"rounds": self.weight_rounds}

    @property
    def server_only(self) -> frozenset[str]:
        if self.raw is not None:
            return self.raw.server_only
        names = frozenset({"velocity", "average", "start", "noise", "root events"})
        if self.again is not None:
            names |= {COUNTED, NOISE, *PILOT}
        return names if self.cooccurrence else names | {"head"}

    @property
    def stages(self) -> tuple[Stage, ...]:
        if self.raw is not None:
            return self.raw.stages()
        popularity, weights, cooccurrence = self.shares
        if not self.cooccurrence:  # the two others divide its share in proportion to theirs
            rest = popularity + weights
            popularity, weights, cooccurrence = popularity / rest, weights / rest, 0.0
        if not self.weight_rounds:
            popularity, weights = popularity + weights, 0.0
        first = first_stage(self.facts, popularity, self._begin, self.features.public, self.config.stars)
        descent = Stage(self.weight_rounds, self._gradient_sum(weights), self._gradient, self._descend)
        if not self.cooccurrence:
            return (first, descent)
        if self.again is None:
            return (first, self._pairs_stage(cooccurrence, self._lift), descent)
        more = self._pairs_stage(cooccurrence - self.pilot_share, self._lift)
        return (
            first,
            self._pairs_stage(self.pilot_share, self._judge),
            self.again.stage(more, PAIRS, then=self._restart),
            self.again.stage(descent, ALL, then=dict),
        )

    def _pairs_stage(self, share: float, update: Callable[[Shared, Mapping[str, PrivateSum], int], Shared]) -> Stage:
        query = cooccurrence_query(self.plan.pair_numbers, share, self._bits)
        return Stage(1, (query,), self._pairs, update)

    @property
    def _bits(self) -> int:
        return SENT_BITS if self.facts.private else MOST_BITS

    def _gradient_sum(self, share: float) -> tuple[SumQuery, ...]:
        """The sum of a round of descent; `share` of the budget is for all rounds together."""
        if not self.weight_rounds:
            return ()
        share = share / self.weight_rounds
        return (SumQuery("weights", (self.plan.parameters,), GRADIENT_CLIP, share, bits=self._bits),)

    def adds(self, keys: Tensor, round_index: int) -> Tensor | None:
        if self.raw is not None:
            return self.raw.adds(keys, self.queries(round_index)[0].name)
        if round_index < self.preparation or self.weights.weighing == 1 or self.again is not None:
            return None
        return weighs(keys, self.weights.weighing)

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        sent = super().for_devices(shared, round_index)
        if self.raw is not None:
            return self.raw.for_devices(sent, self.queries(round_index)[0].name)
        if self.again is None:
            return sent
        if round_index < self.preparation or float(shared[AGAIN]) == ALL:
            return {name: sent[name] for name in ("head", AGAIN) if name in sent}
        return sent

    def fault(self, shared: Shared, round_index: int) -> str:
        if self.again is not None:
            return self.again.fault(shared.get(AGAIN), round_index)
        return NOT_OFFERED if AGAIN in shared else ""

    def initial(self) -> Shared:
        if self.raw is not None:
            return self.raw.initial()
        ones = {"popularity": torch.ones(self.items, device=self.facts.device)}
        shared = self.weights.start(ones | unrated(self.facts, self.config.stars))
        return shared if self.again is None else shared | self.again.chosen(NEVER)

    def _begin(self, shared: Shared, popularity: Tensor, release: PrivateSum) -> Shared:
        """The first `head_items` items by popularity, and the mean root of a user's number of events.

        A user with n events adds 1 / sqrt(n) to each of n items, so the sum over the items is that of the roots. Its
        noise is Gaussian, of standard deviation noise_std * sqrt(items). Noise must not make a cold log look warm, so
        the mean is the lower end of a confidence interval, two standard deviations below the estimate.
        """
        top = popularity.argsort(descending=True, stable=True)[: self.head_items]
        root = (release.value.sum() - DOUBT * release.noise_std * self.items**0.5) / self.facts.expected_cohort
        shared = kept(shared) | {"popularity": popularity, "head": top, "root events": root.clamp(min=0.0)}
        return self.weights.start(shared if self.again is None else shared | self.again.begin(release))

    def _pairs(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        location = torch.full((self.items,), -1, device=users.device)
        location[shared["head"]] = torch.arange(self.head_items, device=users.device)
        skip, numbers = self.config.targets, self.plan.pair_numbers
        if numbers < self.plan.pairs:
            return {"cooccurrence": SketchedPairs(users, location, self.head_items, skip, numbers)}
        return {"cooccurrence": LaggedPairs(users, location, self.head_items, skip)}

    def _pairs_of(self, shared: Shared, release: PrivateSum) -> tuple[PrivateSum, float]:
        """Return all pairs of the head, and how many of them share a number of the release."""
        if self.plan.pair_numbers == self.plan.pairs:
            return release, 1.0
        popularity = shared["popularity"][shared["head"]]
        return pairs_of(release, popularity), self.plan.pairs / self.plan.pair_numbers

    def _lift(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        release, (value, noise_std) = sums["cooccurrence"], PILOT
        if value in shared:
            release = PrivateSum(shared[value], float(shared[noise_std])).pooled(release)
        return self.weights.start(shared | self.features.lift(shared, *self._pairs_of(shared, release)))

    def _judge(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        """Keep the first part of the co-occurrence, and choose what the rest of the budget asks for.

        Two cases are refused more pairs. Either their lift is small, by the upper end of a confidence interval; then
        history does not predict the next item, and weights learn nothing from it either. Or all the pairs together
        could show neither a strong lift nor one as large as this part's, as on a log whose users have hardly any; then
        weights can still learn from public content, if histories are long enough.
        """
        assert self.again is not None
        release = sums["cooccurrence"]
        (pairs, copies), popularity = self._pairs_of(shared, release), shared["popularity"][shared["head"]]
        matrix = triangle(pairs.value, self.head_items)
        lift, error = squared_lift(matrix, pairs.noise_std, popularity, self.facts.expected_cohort, copies)
        if lift + DOUBT * error < LEAST_LIFT:
            choice = ALL
        elif DOUBT * error * self.pilot_share / self.shares[2] > max(MOST_LIFT, lift):
            choice = PAIRS if self.features.public.maps and not self.weights.cold(shared) else ALL
        else:
            choice = NEVER
        noise_std = torch.tensor(release.noise_std, device=release.value.device)
        kept = dict(zip(PILOT, (release.value, noise_std), strict=True)) if choice == NEVER else {}
        return shared | kept | self.again.chosen(choice)

    def _restart(self, shared: Shared) -> Shared:
        """The state that starts from the popularity of all sums so far, without a co-occurrence."""
        return self.weights.start(shared | {"popularity": denoise(counted(shared), self.features.public)})

    def _gradient(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        return {"weights": self.weights.gradients(shared, users)}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        total, cohort = sums["weights"], self.facts.expected_cohort * self.plan.weighing
        mean = total.value[: len(shared["parameters"])] / cohort  # without the kernels of pairs there are fewer
        return shared | self.weights.descent.step(shared, mean, total.noise_std / cohort, step)

    def release(self, shared: Shared) -> KernelModel:
        if self.raw is not None:
            return self.raw.release(shared).by(self.name)
        if float(shared.get(AGAIN, NEVER)) == ALL:
            shared = self._restart(shared)
            weights, network = self.weights.unpack(shared["start"])
        else:
            weights, network = self.weights.trained_weights(shared)
        if network:
            network["scales"] = shared["scales"]
        return KernelModel(self.features.space(shared), weights / shared["scales"], network).by(self.name)
