"""What users compute in a run of `kernel-rank` without privacy: targets, features, gradients, and the judgement.

Few users teach the weights, drawn by their own keys: `LEARNERS` at most. One of five of them judges instead.
Their features are computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import NeighbourMap
from fedrec.kernels.model import KernelModel
from fedrec.kernels.negatives import mixed_negatives
from fedrec.kernels.space import NEGLIGIBLE, KernelSpace

LEARNERS = 6000
"""Users whose features are computed."""
JUDGES = 0.2
"""Part of the learners who judge."""
MOST_JUDGES = 1000
PART = 5
"""One of so many events is a target, up to `targets` of them."""
REACH = 20
"""Ranks that count in the judgement."""
_OWN = "raw "  # begins the names of what a device remembers
_ROLE = 0x61  # stream of draws
_SCORES = 1 << 23  # numbers in memory
_AT_ONCE = 256  # learners whose derivatives are in memory
_LEAST = 1e-9


@dataclass(frozen=True)
class RawUsers:
    """The users' side. space: the feature space of a state. made_of: numbers that differ where the space does."""

    config: KernelRankConfig
    facts: PublicFacts
    space: Callable[[Shared], KernelSpace]
    made_of: Callable[[Shared], Tensor]

    @property
    def learners(self) -> float:
        """Expected number of users whose features are computed."""
        return min(float(self.facts.users), LEARNERS)

    def targets(self, users: UserBatch) -> Tensor:
        """How many of each user's newest events are targets, (B,): one of five, one at least where there are two."""
        many = (users.lengths // PART).clamp(min=1, max=self.config.targets)
        return torch.where(users.lengths > 1, many, 0)

    def drawn(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Which users of these keys (B,) train if they can, and which judge, (B,) bool each."""
        uniform = draws.uniform(keys, _ROLE, 2)
        learns, judges = uniform[:, 0] < LEARNERS / self.facts.users, uniform[:, 1] < JUDGES
        called = draws.uniform(keys, _ROLE + 2, 1)[:, 0] < MOST_JUDGES / max(JUDGES * self.learners, 1)
        return learns & ~judges, learns & judges & called

    def _roles(self, users: UserBatch) -> tuple[Tensor, Tensor]:
        """Positions of the learners who train and of those who judge."""
        able = self.targets(users) > 0
        learners, judges = self.drawn(users.keys)
        return (able & learners).nonzero()[:, 0], (able & judges).nonzero()[:, 0]

    # ---- features of the learners

    def _learned(self, shared: Shared, users: UserBatch) -> dict[str, Tensor]:
        """Features (L, T, 1 + negatives, K), offsets (L, T, 1 + negatives) and valid (L, T) of the learners."""
        made_of = self.made_of(shared)
        found = {name.removeprefix(_OWN): part for name, part in users.memory.items() if name.startswith(_OWN)}
        if "made of" not in found or not torch.equal(found["made of"], made_of):
            rows = self._roles(users)[0]
            found = self._examples(shared, users.take(rows)) | {"learners": rows, "made of": made_of}
            users.memory.update({_OWN + name: part for name, part in found.items()})
        return found

    def _examples(self, shared: Shared, users: UserBatch) -> dict[str, Tensor]:
        space, count = self.space(shared), self.config.negatives
        negatives = mixed_negatives(users, shared["popularity"], self.config.targets * count, stream=1)
        most = self.targets(users)
        rows, offsets = [], []
        for lag in range(self.config.targets):
            drawn = negatives.items[:, lag * count : (lag + 1) * count]
            candidates = torch.cat([users.newest(lag).clamp(min=0)[:, None], drawn], 1)
            rows.append(met(space, users.without_newest(torch.full_like(users.lengths, lag + 1)), candidates))
            offsets.append(-negatives.log_ratio(candidates))
        valid = torch.arange(self.config.targets, device=users.device) < most[:, None]
        return {"features": torch.stack(rows, 1), "offsets": torch.stack(offsets, 1), "valid": valid}

    def moments(self, shared: Shared, users: UserBatch) -> Tensor:
        """Each learner's mean of every feature and of its square, (B, 2, K); zeros for others."""
        found = self._learned(shared, users)
        features, valid = found["features"], found["valid"]
        weight = (valid / valid.sum(1, keepdim=True)).to(features.dtype)
        both = torch.stack([features.mean(2), features.square().mean(2)], 1)  # (L, 2, T, K)
        means = (both * weight[:, None, :, None]).sum(2) / (1 - JUDGES)
        return features.new_zeros(len(users), 2, features.shape[3]).index_copy_(0, found["learners"], means)

    def derivatives(self, shared: Shared, users: UserBatch) -> Tensor:
        """Each learner's mean softmax loss over its targets at the weights, its gradient and its Hessian, one after the
        other, (B, 1 + K + K^2); zeros for others."""
        found, weights = self._learned(shared, users), shared["weights"]
        made = weights.new_zeros(len(users), derivatives(len(weights)))
        for some in torch.arange(len(found["learners"]), device=users.device).split(_AT_ONCE):
            features = found["features"][some] / shared["scales"]  # (L, T, C, K)
            valid = found["valid"][some]
            part = (valid / valid.sum(1, keepdim=True)).to(features.dtype)[:, :, None]
            scores = features @ weights + found["offsets"][some]
            chance = torch.softmax(scores, 2) * part  # (L, T, C)
            loss = -(torch.log_softmax(scores, 2)[:, :, :1] * part).sum((1, 2))
            flat = features.flatten(1, 2)
            mean = (chance[:, :, None] @ features)[:, :, 0]  # (L, T, K), times the target's part
            slope = mean.sum(1) - (features[:, :, 0] * part).sum(1)
            bend = (flat * chance.flatten(1)[:, :, None]).mT @ flat - mean.mT @ (mean / part.clamp(min=_LEAST))
            made[found["learners"][some]] = torch.cat([loss[:, None], slope, bend.flatten(1)], 1)
        return made

    # ---- the judgement

    def judged(self, own: int, features: int) -> int:
        """Number of scores that are judged: the weights, popularity, and each feature of a kernel."""
        return 2 + features - own

    def place(self, judged: int, own: int) -> int:
        """The feature of a judged score, which is not the first one."""
        return 0 if judged == 1 else own + judged - 2

    def judge(self, shared: Shared, users: UserBatch, model: KernelModel, own: int, features: int) -> Tensor:
        """The discounted gain of each judge's targets under each score, (B, judged); zeros for others."""
        found = torch.zeros(len(users), self.judged(own, features), device=users.device)
        rows = self._roles(users)[1]
        most = max(1, _SCORES // (users.n_items * features))
        for some in rows.split(most):
            judges = users.take(some)
            many = self.targets(judges)
            known = torch.zeros(len(judges), users.n_items, dtype=torch.bool, device=users.device)
            known[judges.distinct] = True
            state = model.fit(judges.without_newest(many))
            for step in range(int(many.max()) if len(some) else 0):  # the oldest target first
                left = many > step
                some, many, known = some[left], many[left], known[left]
                state = {name: part[left] for name, part in state.items()}
                judges = judges.take(left.nonzero()[:, 0])
                place = many - 1 - step
                target = judges.items[judges.offsets[1:] - 1 - place]
                ranks = self._ranks(model, state, known, target)
                gain = torch.where(ranks < REACH, 1 / (ranks + 2).log2(), 0.0)
                found.index_add_(0, some, gain.float() / many[:, None])
                state = model.fold_in(state, target)
        return found

    def _ranks(self, model: KernelModel, state: dict[str, Tensor], known: Tensor, target: Tensor) -> Tensor:
        """Ranks of the targets (B,) among items outside of the history, equal scores counting half, (B, judged)."""
        space = model.space
        popularity = space.log_popularity.expand(len(target), -1)
        ranks = [_rank(torch.stack([model.score(state), popularity], 1), known, target)]
        for name, map_ in space.maps.items():
            by_decay = _rank(map_.against(space.profiles(state, name)), known, target)
            ranks.append(by_decay.expand(-1, len(space.decays)))  # without order all decays are one
        return torch.cat(ranks, 1)


def _rank(scores: Tensor, known: Tensor, target: Tensor) -> Tensor:
    """Ranks (B, R) of the targets (B,) by scores (B, R, items), known items (B, items) left out."""
    at = scores.gather(2, target[:, None, None].expand(-1, scores.shape[1], 1))
    others = ~known[:, None]
    others[torch.arange(len(target), device=target.device), 0, target] = True
    above, equal = (scores > at) & others, (scores == at) & others
    return above.sum(2) + equal.sum(2) / 2


def met(space: KernelSpace, users: UserBatch, candidates: Tensor) -> Tensor:
    """All features of a few candidates (B, C), (B, C, K), as `KernelSpace.features`; tables of neighbours come last."""
    tables = {name: map_ for name, map_ in space.maps.items() if isinstance(map_, NeighbourMap)}
    base = replace(space, maps={name: map_ for name, map_ in space.maps.items() if name not in tables})
    state = base.fit(users)
    parts = [base.features(state, candidates)]
    lags = users.lags[:, None].to(torch.float32)
    weights = torch.pow(state["rates"][users.owners], lags) / state["mass"].clamp(min=NEGLIGIBLE)[users.owners]
    weights = torch.where(weights > NEGLIGIBLE, weights, 0.0)
    for map_ in tables.values():
        values = map_.met(users.owners, users.items, weights, candidates)  # (B, R, C)
        parts.append(values.expand(-1, len(space.decays), -1).transpose(1, 2))
    return torch.cat(parts, 2)


def derivatives(features: int) -> int:
    """Numbers of a loss, its gradient and its Hessian."""
    return 1 + features + features * features
