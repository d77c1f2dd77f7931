"""What every algorithm keeps when private looks come between its rounds; a part of `AlgorithmContract`."""

from typing import Any

import torch

from fedrec.algorithms.base import Algorithm
from fedrec.data.users import UserBatch
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig


class LooksContract:
    """`make`, `step` and `train` are those of `AlgorithmContract`."""

    make: Any
    step: Any
    train: Any

    def test_looks_leave_the_training_as_it_is(self, algo: Algorithm, users: UserBatch) -> None:
        """With looks a run trains as without, on all but the newest events; from the first look on there is a model."""
        steps = algo.rounds - algo.preparation
        if steps < 2:
            return  # one look, at the end
        rule = StoppingConfig(every=max(1, steps // 2))
        looking = PrivateEvaluation(algo, PrivateEvaluationConfig(share=0.1, stopping=rule))
        assert len(looking.trained) >= 2
        shared, states = looking.initial(), {}
        for round in range(looking.rounds):
            shared = states[round] = self.step(looking, shared, users, round)
        known = users.without_newest(torch.ones_like(users.lengths))
        alone = self.train(self.make(looking.inner.setting), known)
        for name, tensor in alone.items():
            assert torch.equal(shared[name], tensor), name
        looks = looking.looks(shared)
        assert all(0 <= look["ndcg@10"] <= 1 for look in looks)
        kept = int(looks[looking.kept(shared)]["round"])
        released = looking.release(shared).tensors()
        expected = looking.inner.release(looking._inner_state(states[kept])).tensors()
        assert all(torch.equal(released[name], expected[name]) for name in expected)
