"""Ranking weights of `kernel-rank`: how they start, each user's gradient, and what of their change is not chance.

A score is a linear function of the features, with a small network of hidden units added where users and budget can pay
for it. The loss is a softmax over each of a user's newest training items and negatives from everything outside the
user's training items.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_features import KernelFeatures
from fedrec.algorithms.kernel_rank_plan import FEWEST, GRADIENT_CLIP, parameter_count
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.data.users import UserBatch
from fedrec.kernels.descent import Descent
from fedrec.kernels.evidence import Chance, evident
from fedrec.kernels.negatives import mixed_negatives
from fedrec.kernels.synthetic import feature_scales, synthetic_users
from fedrec.privacy.queries import Contribution, DenseContribution, FewRows

COLD = 0.5  # with a smaller part of users who have a target, chance moves weights further than taste does
SYNTHETIC = 1000  # users without a taste, whose gradients show the size of chance
AT_ONCE = 512  # users whose features are made together
EXAMPLES = ("features", "offsets", "valid")
WEIGHING = 7  # stream of the draw that chooses the users who teach the weights
LEAST_PART = 0.02  # least part of the users with a training target, where the released sum is too small


@dataclass
class RankingWeights:
    """The weights and their loss.

    features: what is weighed. hidden: units of the network, 0 for linear scores. descent: the plan of steps. weighing:
    part of the users who teach the weights.
    """

    config: KernelRankConfig
    facts: PublicFacts
    features: KernelFeatures
    hidden: int
    descent: Descent
    weighing: float = 1.0
    _evident: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    @property
    def trained(self) -> bool:
        """Whether there is any step."""
        return self.descent.rounds > 0

    def start(self, shared: Shared) -> Shared:
        """The state with weights that score items by the logarithm of its popularity, before the first step."""
        shared = {name: tensor for name, tensor in shared.items() if name != "sizes"}  # those of another space
        space = self.features.build(shared)
        shared |= {} if space.sizes is None else {"sizes": space.sizes}
        scales = feature_scales(space, shared["popularity"], seed=self.facts.seed)
        self.features.keep(scales, space)
        start = torch.zeros(parameter_count(len(scales), self.hidden), device=self.facts.device)
        standard = space.log_popularity  # scores begin as the logarithm of popularity: this is its spread
        start[0] = scales[0] * (shared["popularity"].log() @ standard) / (standard @ standard).clamp(min=1.0)
        if self.hidden:  # the output starts at zero, so the network does too; its input weights must differ
            generator = torch.Generator().manual_seed(self.facts.seed)
            wide = len(scales) * self.hidden
            drawn = torch.randn(wide, generator=generator, device="cpu") / len(scales) ** 0.5
            start[len(scales) : len(scales) + wide] = drawn.to(self.facts.device)
        shared = shared | {"scales": scales, "gradient norm": scales.new_zeros(())} | self.descent.begin(start)
        cold = "root events" in shared and self.cold(shared)
        if self.facts.private or not cold or not self.trained:
            return shared
        return shared | {"gradient norm": self._tasteless(shared).norm(dim=1).mean().nan_to_num()}

    def gradients(self, shared: Shared, users: UserBatch) -> Contribution:
        """The clipped gradient of each user who teaches the weights, (parameters,); zeros of the others.

        Features are made once a batch. Few users at a time keep to the processor's cache.
        """
        memory = users.memory
        if "scales" not in memory or not torch.equal(memory["scales"], shared["scales"]):
            chosen = weighs(users.keys, self.weighing).nonzero()[:, 0]
            parts = [self._examples(shared, users.take(some)) for some in chosen.split(AT_ONCE)]
            memory.update({name: torch.cat([part.pop(name) for part in parts]) for name in EXAMPLES if parts})
            memory.update(scales=shared["scales"], chosen=chosen)
        found = [shared["parameters"].new_zeros(0, len(shared["parameters"]))]
        for start in range(0, len(memory["chosen"]), AT_ONCE):
            examples = (memory[name][start : start + AT_ONCE] for name in EXAMPLES)
            found.append(self.clipped(self.gradient(shared["parameters"], *examples), shared))
        gradients = torch.cat(found)
        return DenseContribution(gradients) if self.weighing == 1 else FewRows(gradients, memory["chosen"], len(users))

    def gradient(self, parameters: Tensor, features: Tensor, offsets: Tensor, valid: Tensor) -> Tensor:
        """Each user's mean gradient of the softmax loss over the targets that exist, (B, parameters).

        Args:
            parameters: the weights, then the network's, (parameters,).
            features: scaled, of each target and its negatives, (B, targets, 1 + negatives, K).
            offsets: of their scores, (B, targets, 1 + negatives).
            valid: which targets exist, (B, targets) bool.
        """
        weights, network = self.unpack(parameters)
        flat = features.flatten(1, 2)  # (B, T * C, K)
        if network:  # one product for weights and units: `rowwise` copies what it multiplies
            met = flat @ torch.cat([weights[:, None], network["hidden"]], 1)  # (B, T * C, 1 + H)
            before = met[:, :, 1:] + network["bias"]
            active = torch.relu(before)
            scores = met[:, :, 0] + (active * network["output"]).sum(2)
        else:
            scores = flat @ weights
        error = torch.softmax(scores.view_as(offsets) + offsets, 2)  # (B, T, C)
        error[:, :, 0] -= 1
        error = (error * (valid / valid.sum(1, keepdim=True).clamp(min=1))[:, :, None]).flatten(1, 2)  # (B, T * C)
        if not network:
            return torch.bmm(error[:, None], flat)[:, 0]
        back = error[:, :, None] * network["output"] * (before > 0)
        both = torch.bmm(torch.cat([error[:, :, None], back], 2).mT.contiguous(), flat)  # (B, 1 + H, K)
        parts = [both[:, 0], both[:, 1:].mT.flatten(1), back.sum(1), torch.bmm(error[:, None], active)[:, 0]]
        return torch.cat(parts, 1)

    def clipped(self, gradients: Tensor, shared: Shared) -> Tensor:
        """Users' gradients (B, K) cut to norm `GRADIENT_CLIP`, without privacy too: the step size is made for it.

        Where most users are cold and there is no privacy, they are divided by their typical norm instead of cut.
        """
        typical = shared["gradient norm"]
        longest = (gradients.norm(dim=1, keepdim=True) / GRADIENT_CLIP).clamp(min=1)
        return gradients / torch.where(typical > 0, typical, longest)

    def trained_weights(self, shared: Shared) -> tuple[Tensor, dict[str, Tensor]]:
        """(weights (K,), network) after the descent; of linear scores, what is not chance."""
        weights, network = self.unpack(shared["average"])
        if self.trained and not self.hidden:  # a network's parts mean nothing alone: none of them is judged
            weights = self.evident(shared)
        return weights, network

    def evident(self, shared: Shared) -> Tensor:
        """The weights less what chance explains of their way from the start, (K,); see `fedrec.kernels.evidence`.

        Public content is known to be worth something, so its weights keep all of their way. Two logs are different.
        Where most users are cold, few histories are long enough to teach the weights. Without content all kernels are
        made of noisy sums, and each weight must exceed its noise; of a kernel, the common part of its decays is judged
        first, since without an order they are one feature. If no kernel then attracts, what is left only bends
        popularity to fit the many items of the tail, which costs order among the few of the head: none of it is kept.
        """
        average, start = shared["average"], shared["start"]
        cold = self.cold(shared)
        if self.features.public.maps and not cold:
            return average
        if self._evident is None or self._evident[0] is not average:
            space, noise = self.features.space(shared), float(shared["noise"])
            groups, turn = space.judged, None
            covariance = noise**2 * torch.eye(len(average), dtype=torch.float64, device=average.device)
            if cold:
                covariance = self._chance(shared).covariance(self.descent, noise)
            else:
                groups = [slice(place, place + 1) for place in range(len(average))]
                turn = space.common_first  # noise is the same in every direction
            moved = average - start
            kept = (
                evident(moved, covariance, groups)
                if turn is None
                else turn @ evident(turn.T @ moved, covariance, groups)
            )
            if not cold and noise and not bool((kept[space.own :] > 0).any()):
                kept = torch.zeros_like(kept)
            self._evident = (average, start + kept)
        return self._evident[1]

    def cold(self, shared: Shared) -> bool:
        """Whether so few users have a training target that chance moves the weights further than taste does."""
        return self._part_with_target(shared) < COLD

    def unpack(self, parameters: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(weights (K,), the network's tensors by name; none without hidden units)."""
        hidden = self.hidden
        features = (len(parameters) - 2 * hidden) // (1 + hidden)
        weights, wide, bias, output = parameters.split([features, features * hidden, hidden, hidden])
        if not hidden:
            return weights, {}
        return weights, {"hidden": wide.view(features, hidden), "bias": bias, "output": output}

    def _examples(self, shared: Shared, users: UserBatch) -> dict[str, Tensor]:
        """The arguments of `gradient` by name; the target is the first of its candidates."""
        space, count = self.features.space(shared), self.config.negatives
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

    def _chance(self, shared: Shared) -> Chance:
        """The movement of the weights where users have no taste."""
        gradients, part = self._tasteless(shared), self._part_with_target(shared)
        return Chance.of(gradients, self.clipped(gradients, shared), part * self.weighing * self.facts.users, part)

    def _part_with_target(self, shared: Shared) -> float:
        """Part of all users who have a training target, if lengths are Poisson about that of the typical user."""
        events = float(shared["root events"]) ** 2
        return min(1.0, max(LEAST_PART, 1 - math.exp(min(0.0, FEWEST - events))))

    def _tasteless(self, shared: Shared) -> Tensor:
        """Gradients of synthetic users at the start of the weights, (S, parameters)."""
        events, items = float(shared["root events"]) ** 2, len(self.facts.catalogue)
        longest = min(items, max(FEWEST + 1, round(4 * events)))
        shortest = min(longest, max(FEWEST + 1, round(events / 4)))
        users = synthetic_users(shared["popularity"], (shortest, longest), SYNTHETIC, self.facts.seed, stream=3)
        found = self._examples(shared, users.without_repeats())
        features, offsets, valid = (found[name] for name in ("features", "offsets", "valid"))
        return self.gradient(shared["start"], features, offsets, valid)[valid.any(1)]


def weighs(keys: Tensor, part: float) -> Tensor:
    """Which users teach the weights, by their own keys, (B,) bool: the same ones in every round of a simulation.

    The keys follow from the public seed and from no event, so the choice is public. It amplifies nothing: the plan
    prices each round as if everybody taught.
    """
    return draws.uniform(keys, WEIGHING, 1)[:, 0] < part
