"""Runs under noise on users without a taste, where nothing can be learned but popularity."""

import math

import numpy as np
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.toy_users import ITEMS, USERS


def tasteless_rows(users: int = USERS, items: int = ITEMS, events: int = 6) -> tuple[list[list[int]], torch.Tensor]:
    """Histories by popularity alone, which falls steeply; and one held-out item each, (users,)."""
    generator = np.random.default_rng(5)
    chance = 1 / (1 + np.arange(items)) ** 1.2
    drawn = [generator.choice(items, events + 1, replace=False, p=chance / chance.sum()) for _ in range(users)]
    order = [generator.permutation(row) for row in drawn]
    return [[int(item) for item in row[1:]] for row in order], torch.tensor([int(row[0]) for row in order])


def noisy(algorithm: Algorithm, users: UserBatch, seed: int = 0) -> ReleasedModel:
    """Train with clip and noise as the budget of `algorithm.facts.mu` prices them, and return the model."""
    generator, shared = torch.Generator().manual_seed(seed), algorithm.initial()
    for number in range(algorithm.rounds):
        shared = _step(algorithm, shared, users, number, generator)
    return algorithm.release(shared)


def _step(algorithm: Algorithm, shared: Shared, users: UserBatch, number: int, generator: torch.Generator) -> Shared:
    parts, sums = algorithm.contribute(shared, users, number), {}
    for query in algorithm.queries(number):
        value = parts[query.name].weighted_sum(clip_weights(parts[query.name], query.clip_norm))
        std = query.clip_norm / (algorithm.facts.mu * math.sqrt(query.budget_share))
        sums[query.name] = PrivateSum(value + std * torch.randn(value.shape, generator=generator), std)
    return algorithm.update(shared, sums, number)


def hits(model: ReleasedModel, users: UserBatch, held_out: torch.Tensor, k: int = 10) -> float:
    """Return the part of users whose held-out item is among the first `k`."""
    items, _ = model.recommend(users, k)
    return float((items == held_out[:, None]).any(1).float().mean())
