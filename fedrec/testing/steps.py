"""What the contract tests are made of: toy users, a setting, and rounds without a clip."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.testing.toy_users import USERS, batch_of, planted_catalogue, planted_rows

Rounds = list[tuple[int, Shared]]
"""Numbers of rounds, each with the shared state before the round."""


class Steps:
    """Base of the contracts of an algorithm."""

    asks_users = True
    """False for algorithms that learn nothing from users, and so release no popularity."""

    def make(self, facts: PublicFacts) -> Algorithm:
        """The algorithm with a configuration small enough for toy data."""
        raise NotImplementedError

    def facts(self, **changes: Any) -> PublicFacts:
        base = PublicFacts(planted_catalogue(), users=USERS, expected_cohort=float(USERS), seed=11)
        return replace(base, **changes)

    @pytest.fixture(scope="class")
    def algo(self) -> Algorithm:
        return self.make(self.facts())

    @pytest.fixture(scope="class")
    def users(self) -> UserBatch:
        return batch_of(planted_rows()[0])

    @pytest.fixture(scope="class")
    def states(self, algo: Algorithm, users: UserBatch) -> list[Shared]:
        """The shared state before each round and after the last, of one run for all tests of a class."""
        return self.run(algo, users)

    @pytest.fixture
    def sampled_rounds(self, states: list[Shared]) -> Rounds:
        return self.sample(states)

    @staticmethod
    def sample(states: list[Shared]) -> Rounds:
        """Return the first, a middle and the last round: rounds may ask for different sums. The states are copies."""
        rounds = len(states) - 1
        sampled = sorted({0, rounds // 2, rounds - 1}) if rounds else []
        return [
            (round_index, {name: tensor.clone() for name, tensor in states[round_index].items()})
            for round_index in sampled
        ]

    @staticmethod
    def step(algo: Algorithm, shared: Shared, users: UserBatch, round_index: int, noise: float = 0.0) -> Shared:
        """One round without a clip; `noise` is relative to each query's clip norm."""
        contributions = algo.contribute(shared, users, round_index)
        generator = torch.Generator().manual_seed(round_index)
        sums = {}
        for query in algo.queries(round_index):
            value = contributions[query.name].weighted_sum(torch.ones(len(users)))
            std = noise * query.clip_norm
            sums[query.name] = PrivateSum(value + std * torch.randn(value.shape, generator=generator), std)
        return algo.update(shared, sums, round_index)

    def run(self, algo: Algorithm, users: UserBatch, noise: float = 0.0) -> list[Shared]:
        """Return the shared state before each round and after the last, in order."""
        states = [algo.initial()]
        for round_index in range(algo.rounds):
            states.append(self.step(algo, states[-1], users, round_index, noise))
        return states

    def train(self, algo: Algorithm, users: UserBatch, noise: float = 0.0) -> Shared:
        """Return the shared state after the last round."""
        return self.run(algo, users, noise)[-1]

    def each_round(self, algo: Algorithm, users: UserBatch) -> Rounds:
        """Return the rounds in order, each with the shared state before it."""
        return list(enumerate(self.run(algo, users)[:-1]))

    @staticmethod
    def pairs(
        algo: Algorithm, shared: Shared, users: UserBatch, round_index: int
    ) -> list[tuple[SumQuery, Contribution]]:
        contributions = algo.contribute(shared, users, round_index)
        return [(query, contributions[query.name]) for query in algo.queries(round_index)]
