"""`kernel-rank`: rank with public item kernels, a private co-occurrence and a few dozen private ranking weights.

Three ideas make it strong under user-level privacy. Public kernels between items (genres, years, words, encoder
vectors), averaged over the user's own history with recency weights ON the device, cost no budget. The weights that turn
those averages into a score are few, so learning them under privacy costs almost nothing. One release of time-local
co-occurrence among head items, denoised against the public content, carries what collaboration adds.

Rounds: 0 popularity; 1 co-occurrence; then the ranking weights by private gradient descent on a softmax loss over each
user's newest training items against negatives from everything outside the user's training items. The head starts as the
logarithm of popularity, so that weights move it only as far as gradients say.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Setting, Shared
from fedrec.algorithms.kernel_rank_settings import (
    NETWORK_STRENGTH,
    PAIRS_STRENGTH,
    TUNED_USERS,
    UNITS,
    USERS_PER_WEIGHT,
    KernelRankConfig,
    default_head,
    default_shares,
    linear_rate,
)
from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import LaggedPairs, cooccurrence_query, triangle
from fedrec.kernels.denoise import RESIDUAL_RANK, fit_lift, low_rank
from fedrec.kernels.descent import Descent
from fedrec.kernels.evidence import Chance, evident
from fedrec.kernels.feature_map import DenseMap, FeatureMap, HeadMap
from fedrec.kernels.model import KernelModel, KernelSpace, centred_space, head
from fedrec.kernels.negatives import mixed_negatives
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import number_scores, public_kernels
from fedrec.kernels.synthetic import feature_scales, synthetic_users
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings

GRADIENT_CLIP = 1.0
COLD = 0.5  # with a smaller part of users who have a target, chance moves weights further than taste does
SYNTHETIC = 1000  # users without a taste, of whom the size of chance is learned
LEAST_PART = 0.02  # of the users have a training target, whatever the released sum says
FEWEST = 1  # events that a history must have before an item counts as a training target


class KernelRank(Algorithm):
    """See the module."""

    name: ClassVar[str] = "kernel-rank"
    Config: ClassVar[type[Settings]] = KernelRankConfig
    config: KernelRankConfig

    def __init__(self, config: KernelRankConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.items = len(setting.catalogue)
        self.public = public_kernels(setting.catalogue, config.kernel_rank, setting.seed).to(setting.device)
        self.numbers = number_scores(setting.catalogue).to(setting.device)
        strength = setting.strength / TUNED_USERS
        self.shares = config.shares or default_shares(strength)
        self.head = min(self.items, config.head or default_head(setting.users, setting.mu))
        pairs = strength >= PAIRS_STRENGTH if config.cooccurrence is None else config.cooccurrence
        self.releases = 2 if pairs and self.head > 1 else 1
        kernels = bool(self.public.maps) or self.releases == 2
        network = strength >= NETWORK_STRENGTH and setting.users >= USERS_PER_WEIGHT * UNITS * self._features
        network = network and not (setting.private and not self.public.maps)  # there, each weight must show evidence
        self.hidden = config.hidden if config.hidden is not None else UNITS if network else 0
        rounds = 80 if self.hidden else 40 if kernels else 0
        self.weight_rounds = rounds if config.weight_rounds is None else config.weight_rounds
        self.learning_rate = config.learning_rate or (4.0 if self.hidden else linear_rate(strength))
        self.descent = Descent(self.weight_rounds, self.learning_rate, config.momentum)
        self._space: tuple[Tensor, KernelSpace] | None = None
        self._kept: tuple[Tensor, Tensor] | None = None

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset(
            {"velocity", "average", "start", "noise", "root events"} | ({"head"} if self.releases == 1 else set())
        )

    @property
    def chosen(self) -> dict[str, Any]:
        names = ("head", "shares", "hidden", "weight_rounds", "learning_rate")
        return {name: getattr(self, name) for name in names} | {"cooccurrence": self.releases == 2}

    @property
    def rounds(self) -> int:
        return self.releases + self.weight_rounds

    @property
    def preparation(self) -> int:
        return self.releases

    def initial(self) -> Shared:
        return self._start_weights({"popularity": torch.ones(self.items, device=self.setting.device)})

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        popularity, weights, cooccurrence = self.shares
        if self.releases == 1:
            weights, cooccurrence = weights + cooccurrence, 0.0
        if not self.weight_rounds:
            popularity, weights = popularity + weights, 0.0
        if round == 0:
            return (popularity_query(self.items, popularity),)
        if round < self.releases:
            return (cooccurrence_query(self.head, cooccurrence),)
        return (SumQuery("weights", (self._parameters,), GRADIENT_CLIP, weights / self.weight_rounds),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        if round == 0:
            return {"popularity": popularity_contribution(users)}
        if round < self.releases:
            location = torch.full((self.items,), -1, device=users.device)
            location[shared["head"]] = torch.arange(self.head, device=users.device)
            return {"cooccurrence": LaggedPairs(users, location, self.head, skip=self.config.targets)}
        if "scales" not in users.memory or not torch.equal(users.memory["scales"], shared["scales"]):
            users.memory.update(self._examples(shared, users), scales=shared["scales"])
        features, offsets, valid = (users.memory[name] for name in ("features", "offsets", "valid"))
        gradient = self._gradient(shared["parameters"], features, offsets, valid)
        return {"weights": DenseContribution(self._cut(gradient, shared))}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        if round == 0:
            popularity = denoise(sums["popularity"], self.public)
            top = popularity.argsort(descending=True, stable=True)[: self.head]
            root = sums["popularity"].value.sum() / self.setting.expected_cohort  # mean root of a user's events
            return self._start_weights({"popularity": popularity, "head": top, "root events": root.clamp(min=0.0)})
        if round < self.releases:
            return self._start_weights(shared | self._lift(shared, sums["cooccurrence"]))
        cohort, step = self.setting.expected_cohort, round - self.releases
        gradient = sums["weights"].value / cohort
        return shared | self.descent.step(shared, gradient, sums["weights"].noise_std / cohort, step)

    def release(self, shared: Shared) -> KernelModel:
        weights, network = self._unpack(shared["average"])
        if self.weight_rounds and not self.hidden:  # a network's parts mean nothing alone: none of them is judged
            weights = self._evident(shared)
        if network:
            network["scales"] = shared["scales"]
        return KernelModel(self.space(shared), weights / shared["scales"], network).by(self.name)

    def space(self, shared: Shared) -> KernelSpace:
        """The feature space of the current releases; rebuilt, to the same bits, whenever they change."""
        key = shared["scales"]
        if self._space is None or self._space[0] is not key:
            self._space = (key, self._build_space(shared))
        return self._space[1]

    def _build_space(self, shared: Shared) -> KernelSpace:
        maps: dict[str, FeatureMap] = dict(self.public.maps)
        if "lift" in shared:
            maps["co-occurrence"] = DenseMap(shared["lift"], shared["lift signs"])
            for name in ("pairs", "cosine"):
                values, signs = shared[name], shared[f"{name} signs"]
                maps[f"co-occurrence {name}"] = HeadMap(shared["head"], self.items, values, signs)
        return centred_space(maps, shared["popularity"], self.numbers, self.config.decays)

    def _start_weights(self, shared: Shared) -> Shared:
        space = self._build_space(shared)
        scales = feature_scales(space, shared["popularity"], seed=self.setting.seed)
        self._space = (scales, space)
        start = torch.zeros(self._count(len(scales)), device=self.setting.device)
        standard = space.log_popularity  # scores begin as the logarithm of popularity: this is its spread
        start[0] = scales[0] * (shared["popularity"].log() @ standard) / (standard @ standard).clamp(min=1.0)
        if self.hidden:  # the output starts at zero, so the network does too; its input weights must differ
            generator = torch.Generator().manual_seed(self.setting.seed)
            wide = len(scales) * self.hidden
            drawn = torch.randn(wide, generator=generator, device="cpu") / len(scales) ** 0.5
            start[len(scales) : len(scales) + wide] = drawn.to(self.setting.device)
        shared = shared | {"scales": scales, "gradient norm": scales.new_zeros(())} | self.descent.begin(start)
        cold = "root events" in shared and self._part_with_target(shared) < COLD
        if self.setting.private or not cold or not self.weight_rounds:
            return shared
        return shared | {"gradient norm": self._tasteless(shared).norm(dim=1).mean().nan_to_num()}

    def _lift(self, shared: Shared, release: PrivateSum) -> Shared:
        """Item features from the noisy co-occurrence; the tail gets its features from the content."""
        top = shared["head"]
        space = centred_space(self.public.maps, shared["popularity"], self.numbers, (1.0,))
        kernels = []
        for name, map_ in space.maps.items():
            rows = map_.rows(top)
            kernel = rows @ rows.T - (rows @ space.means[name])
            kernels.append((kernel + kernel.T) / 2)
        fitted = fit_lift(
            triangle(release.value, self.head),
            release.noise_std,
            shared["popularity"][top],
            kernels,
            self.public.rows(top, smooth=True),
            users=self.setting.expected_cohort,
            seed=self.setting.seed,
        )
        parts = self.public.chunks(self.items, self.setting.device, smooth=True)
        lift = torch.cat([rows @ fitted.content for _, rows in parts])
        lift[top] = fitted.factors
        state = {"lift": lift, "lift signs": fitted.signs}
        for name, matrix in (("pairs", fitted.residual), ("cosine", fitted.cosine)):
            state[name], state[f"{name} signs"] = low_rank(matrix, RESIDUAL_RANK)
        return state

    def _examples(self, shared: Shared, users: UserBatch) -> dict[str, Tensor]:
        """What the loss of each target is made of, the target first among its candidates.

        Returns:
            "features", scaled, (B, targets, 1 + negatives, K); "offsets" of the scores, (B, targets, 1 + negatives);
            "valid", which targets exist, (B, targets) bool.
        """
        space, count = self.space(shared), self.config.negatives
        negatives = mixed_negatives(users, shared["popularity"], self.config.targets * count, stream=1)
        rows, offsets, valid = [], [], []
        for lag in range(self.config.targets):
            target = users.newest(lag)
            exists = users.lengths - lag - 1 >= FEWEST
            drawn = negatives.items[:, lag * count : (lag + 1) * count]
            candidates = torch.cat([target.clamp(min=0)[:, None], drawn], 1)
            state = space.fit(users.without_newest(torch.full_like(users.lengths, lag + 1)))
            rows.append(space.features(state, candidates) / shared["scales"])
            offsets.append(-negatives.log_ratio(candidates))
            valid.append(exists)
        return {"features": torch.stack(rows, 1), "offsets": torch.stack(offsets, 1), "valid": torch.stack(valid, 1)}

    def _gradient(self, parameters: Tensor, features: Tensor, offsets: Tensor, valid: Tensor) -> Tensor:
        """Each user's mean gradient of the softmax loss over the targets that exist, (B, parameters)."""
        weights, network = self._unpack(parameters)
        error = torch.softmax(head(features, weights, network) + offsets, 2)  # (B, T, C)
        error[:, :, 0] -= 1
        error = error * (valid / valid.sum(1, keepdim=True).clamp(min=1))[:, :, None]
        flat, error = features.flatten(1, 2), error.flatten(1, 2)  # (B, T * C, K), (B, T * C)
        parts = [torch.bmm(error[:, None], flat)[:, 0]]
        if network:
            before = flat @ network["hidden"] + network["bias"]  # (B, T * C, H)
            back = error[:, :, None] * network["output"] * (before > 0)
            parts += [
                torch.bmm(flat.transpose(1, 2), back).flatten(1),
                back.sum(1),
                torch.bmm(error[:, None], torch.relu(before))[:, 0],
            ]
        return torch.cat(parts, 1)

    def _evident(self, shared: Shared) -> Tensor:
        """The weights less what chance explains of their way from the start, (K,); see `fedrec.kernels.evidence`.

        Public content is known to be worth something, so its weights keep all of their way. Two logs are different.
        Where most users are cold, too few speak, of too short histories. Without content all kernels are made of noisy
        sums, and each weight must show that it is no noise.
        """
        average, start = shared["average"], shared["start"]
        cold = self._part_with_target(shared) < COLD
        if self.public.maps and not cold:
            return average
        if self._kept is None or self._kept[0] is not average:
            noise, groups = float(shared["noise"]), self.space(shared).judged
            covariance = noise**2 * torch.eye(len(average), dtype=torch.float64, device=average.device)
            if cold:
                covariance = self._chance(shared).covariance(self.descent, noise)
            else:
                groups = [slice(place, place + 1) for place in range(len(average))]
            self._kept = (average, start + evident(average - start, covariance, groups))
        return self._kept[1]

    def _chance(self, shared: Shared) -> Chance:
        """What moves the weights where users have no taste."""
        gradients, part = self._tasteless(shared), self._part_with_target(shared)
        return Chance.of(gradients, self._cut(gradients, shared), part * self.setting.users, part)

    def _part_with_target(self, shared: Shared) -> float:
        """Part of all users who have a training target, if lengths are Poisson about that of the typical user."""
        events = float(shared["root events"]) ** 2
        return min(1.0, max(LEAST_PART, 1 - math.exp(min(0.0, FEWEST - events))))

    def _tasteless(self, shared: Shared) -> Tensor:
        """Gradients of synthetic users at the start of the weights, (S, parameters)."""
        events = float(shared["root events"]) ** 2
        longest = min(self.items, max(FEWEST + 1, round(4 * events)))
        shortest = min(longest, max(FEWEST + 1, round(events / 4)))
        users = synthetic_users(shared["popularity"], (shortest, longest), SYNTHETIC, self.setting.seed, stream=3)
        found = self._examples(shared, users.without_repeats())
        features, offsets, valid = (found[name] for name in ("features", "offsets", "valid"))
        return self._gradient(shared["start"], features, offsets, valid)[valid.any(1)]

    def _cut(self, gradients: Tensor, shared: Shared) -> Tensor:
        """Users' gradients (B, K) cut to norm `GRADIENT_CLIP`, without privacy too: the step size is made for it.

        Where most users are cold and there is no privacy, they are divided by their typical norm instead of cut.
        """
        typical = shared["gradient norm"]
        longest = (gradients.norm(dim=1, keepdim=True) / GRADIENT_CLIP).clamp(min=1)
        return gradients / torch.where(typical > 0, typical, longest)

    @property
    def _features(self) -> int:
        kernels = len(self.public.maps) + (3 if self.releases == 2 else 0)
        empty = KernelSpace({}, {}, self.config.decays, torch.zeros(0, device=self.numbers.device), self.numbers)
        return empty.own + kernels * len(self.config.decays)

    @property
    def _parameters(self) -> int:
        return self._count(self._features)

    def _count(self, features: int) -> int:
        return features + self.hidden * (features + 2)

    def _unpack(self, parameters: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.hidden
        features = (len(parameters) - 2 * hidden) // (1 + hidden)
        weights, wide, bias, output = parameters.split([features, features * hidden, hidden, hidden])
        if not hidden:
            return weights, {}
        return weights, {"hidden": wide.view(features, hidden), "bias": bias, "output": output}
