"""What the contract tests are made of: toy users, a setting, and rounds without a clip."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedrec.algorithms.base import Algorithm, Setting, Shared
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.testing.toy_users import USERS, batch_of, planted_catalogue, planted_rows


class Steps:
    """Base of the contracts of an algorithm."""

    asks_users = True
    """False for algorithms that learn nothing from users, and so release no popularity."""

    def make(self, setting: Setting) -> Algorithm:
        """The algorithm with a configuration small enough for toy data."""
        raise NotImplementedError

    def setting(self, **changes: Any) -> Setting:
        base = Setting(planted_catalogue(), users=USERS, expected_cohort=float(USERS), seed=11)
        return replace(base, **changes)

    @pytest.fixture
    def algo(self) -> Algorithm:
        return self.make(self.setting())

    @pytest.fixture(scope="class")
    def users(self) -> UserBatch:
        return batch_of(planted_rows()[0])

    @staticmethod
    def step(algo: Algorithm, shared: Shared, users: UserBatch, round: int, noise: float = 0.0) -> Shared:
        """One round without a clip; `noise` is relative to each query's clip norm."""
        contributions = algo.contribute(shared, users, round)
        generator = torch.Generator().manual_seed(round)
        sums = {}
        for query in algo.queries(round):
            value = contributions[query.name].weighted_sum(torch.ones(len(users)))
            std = noise * query.clip_norm
            sums[query.name] = PrivateSum(value + std * torch.randn(value.shape, generator=generator), std)
        return algo.update(shared, sums, round)

    def train(self, algo: Algorithm, users: UserBatch, noise: float = 0.0) -> Shared:
        shared = algo.initial()
        for round in range(algo.rounds):
            shared = self.step(algo, shared, users, round, noise)
        return shared

    def each_round(self, algo: Algorithm, users: UserBatch) -> list[tuple[int, Shared]]:
        """The shared states before each round, in order."""
        states, shared = [], algo.initial()
        for round in range(algo.rounds):
            states.append((round, shared))
            shared = self.step(algo, shared, users, round)
        return states

    def sample_rounds(self, algo: Algorithm, users: UserBatch) -> list[tuple[int, Shared]]:
        """The first, a middle and the last round: rounds may ask for different sums."""
        states = self.each_round(algo, users)
        return [states[i] for i in sorted({0, len(states) // 2, len(states) - 1})] if states else []

    @staticmethod
    def pairs(algo: Algorithm, shared: Shared, users: UserBatch, round: int) -> list[tuple[SumQuery, Contribution]]:
        contributions = algo.contribute(shared, users, round)
        return [(query, contributions[query.name]) for query in algo.queries(round)]
