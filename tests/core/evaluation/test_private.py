"""Private metrics: what each user adds, what it is charged, and that training never sees the newest event."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.discover import algorithms
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.errors import InputError
from fedrec.evaluation.private import CLIP, PrivateEvaluation, PrivateEvaluationConfig
from fedrec.model import ReleasedModel
from fedrec.privacy.queries import DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings, parse

ROWS = [[], [2], [0, 1], [0, 2, 1], [1, 2, 0, 4], [3, 0]]


@dataclass
class Fixed(ReleasedModel):
    values: torch.Tensor
    kind = "fixed"

    def fit(self, users):
        return {"rows": torch.zeros(len(users))}

    def score(self, state, candidates=None):
        scores = self.values.expand(len(state["rows"]), -1)
        return scores if candidates is None else scores.gather(1, candidates)

    def fold_in(self, state, items):
        return state

    def tensors(self):
        return {"values": self.values}

    @classmethod
    def restore(cls, tensors, manifest):
        return cls(tensors["values"])


class Counts(Algorithm):
    """The number of events of each item, in two equal rounds."""

    name = "toy-counts"
    Config = Settings

    @property
    def rounds(self):
        return 2

    def initial(self):
        return {"counts": torch.zeros(len(self.facts.catalogue))}

    def queries(self, round_index):
        return (SumQuery("counts", (len(self.facts.catalogue),), 10.0, 0.5),)

    def contribute(self, shared, users, round_index):
        values = torch.zeros(len(users), users.n_items)
        values.index_put_((users.owners, users.items), torch.tensor(1.0), accumulate=True)
        return {"counts": DenseContribution(values)}

    def update(self, shared, sums, round_index):
        return {"counts": shared["counts"] + sums["counts"].value}

    def release(self, shared):
        assert set(shared) == {"counts"}
        return Fixed(shared["counts"])


def build(share: float = 0.1, cohort: float = 6.0) -> PrivateEvaluation:
    facts = PublicFacts(Catalogue(tuple("abcde")), users=6, expected_cohort=cohort, mu=2.0)
    return PrivateEvaluation(Counts(Settings(), facts), PrivateEvaluationConfig(share=share))


def batch(users=None):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in ROWS])]).astype(np.int64)
    log = Histories(offsets, np.array([i for row in ROWS for i in row], dtype=np.int32), 5)
    return log.batch(np.arange(len(ROWS)) if users is None else np.array(users), seed=0)


def train(algorithm: PrivateEvaluation, noise_std: float = 0.0):
    shared = algorithm.initial()
    for round_index in range(algorithm.rounds):
        parts = algorithm.contribute(shared, batch(), round_index)
        sums = {name: PrivateSum(part.weighted_sum(torch.ones(6)), noise_std) for name, part in parts.items()}
        shared = algorithm.update(shared, sums, round_index)
    return shared


def test_the_budget_shares_still_sum_to_one():
    algorithm = build(share=0.1)
    queries = [q for round_index in range(algorithm.rounds) for q in algorithm.queries(round_index)]
    assert [q.name for q in queries] == ["counts", "counts", "evaluation"]
    assert math.fsum(q.budget_share for q in queries) == pytest.approx(1.0)
    assert queries[-1].budget_share == 0.1
    assert algorithm.inner.facts.mu**2 + 0.1 * algorithm.facts.mu**2 == pytest.approx(algorithm.facts.mu**2)


def test_training_never_sees_the_newest_event():
    algorithm = build()
    seen = algorithm.contribute(algorithm.initial(), batch(), 0)["counts"].values
    expected = torch.zeros(6, 5)
    for user, row in enumerate(ROWS):
        for item in row[:-1]:
            expected[user, item] += 1
    assert torch.equal(seen, expected)
    changed = train(algorithm)["counts"]
    assert torch.equal(changed, 2 * expected.sum(0))


def test_each_user_adds_its_own_metrics_and_the_clip_never_bites():
    algorithm = build()
    shared = {"counts": torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])}
    part = algorithm.contribute(shared, batch(), 2)["evaluation"]
    worst = algorithm.contribute({"counts": torch.zeros(5)}, batch(), 2)["evaluation"]
    # Users 0 and 1 have fewer than two events; only user 4 lacks an item (3) that scores above its newest (4).
    ranks = [None, None, 0, 0, 1, 0]
    expected = [[0.0, 0, 0] if r is None else [1.0, 1 / math.log2(r + 2), 1] for r in ranks]
    assert part.values.tolist() == [pytest.approx(row) for row in expected]
    assert float(part.norms().max()) == pytest.approx(CLIP)
    assert (part.norms() <= CLIP * (1 + 1e-12)).all()
    assert (worst.values[2:, 1] < part.values[2:, 1] + 1e-12).all()
    one = algorithm.contribute(shared, batch([4]), 2)["evaluation"]
    assert torch.equal(one.values[0], part.values[4])


def test_metrics_have_a_fixed_denominator_and_say_their_noise():
    algorithm = build(cohort=12.0)
    assert algorithm.private_metrics(algorithm.initial()) == {}
    shared = train(algorithm, noise_std=3.0)
    told = algorithm.private_metrics(shared)
    assert told["hr@10"] == {"value": pytest.approx(4 / 12), "std": pytest.approx(3 / 12)}
    assert told["evaluated"]["value"] == pytest.approx(4 / 12)
    assert set(told) == {"hr@10", "ndcg@10", "evaluated"}


def test_release_is_the_inner_one_and_the_wrapper_is_no_algorithm_to_discover():
    algorithm = build()
    assert torch.equal(algorithm.release(train(algorithm)).values, train(algorithm)["counts"])
    assert "private-evaluation" not in algorithms()


def test_a_share_outside_0_1_is_refused():
    with pytest.raises(InputError, match="share"):
        parse(PrivateEvaluationConfig, {"share": 1.0}, "scenario")
