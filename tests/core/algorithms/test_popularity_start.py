"""Baselines under privacy: popularity is released first and is part of the item vectors."""

import pytest
import torch

from fedrec.algorithms.fcf import FCF
from fedrec.algorithms.fedncf import FedNCF
from fedrec.algorithms.fedrecon import FedRecon
from fedrec.algorithms.pfedrec import PFedRec
from fedrec.algorithms.popularity_start import standard_log
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, USERS, batch_of

FIELD = [FCF, FedNCF, FedRecon, PFedRec]


class UnderPrivacy(AlgorithmContract):
    """The contract as it is for a run with a budget: the first round asks for popularity."""

    learns_taste = False  # a few rounds at mu 1 are not meant to

    def facts(self, **changes):
        return super().facts(**{"mu": 1.0} | changes)


class TestFCFUnderPrivacy(UnderPrivacy):
    def make(self, facts):
        return FCF(FCF.Config(rounds=3), facts)


class TestPFedRecUnderPrivacy(UnderPrivacy):
    def make(self, facts):
        return PFedRec(PFedRec.Config(events=10, rounds=3), facts)


def test_one_item_alone_is_neither_popular_nor_not() -> None:
    assert standard_log(torch.tensor([3.0])).tolist() == [0.0]


@pytest.mark.parametrize("kind", FIELD)
def test_training_begins_with_popularity_under_privacy_alone(kind):
    contract = AlgorithmContract()
    private, free = kind(kind.Config(), contract.facts(mu=1.0)), kind(kind.Config(), contract.facts())
    assert [query.name for query in private.queries(0)] == ["popularity"]
    assert private.rounds == 1 + private.chosen["rounds"]
    assert private.rounds < free.rounds == free.chosen["rounds"]
    asked = [[query.name for query in free.queries(round_index)] for round_index in range(free.rounds)]
    assert asked[0] == ["popularity", *asked[1]], "for those without a history, in a round that there is anyhow"
    assert all("popularity" not in names for names in asked[1:])


@pytest.mark.parametrize("kind", FIELD)
def test_popularity_is_charged_also_where_training_does_not_begin_with_it(kind):
    algo = kind(kind.Config(popularity_share=0), AlgorithmContract().facts(mu=1.0))
    queries = [query for round_index in range(algo.rounds) for query in algo.queries(round_index)]
    (popularity,) = (query for query in queries if query.name == "popularity")
    assert popularity.budget_share == pytest.approx(0.02)
    assert sum(query.budget_share for query in queries) == pytest.approx(1)
    start = algo.initial()
    after = AlgorithmContract.step(algo, start, batch_of([[3], [3, 5]]), 0, noise=1e-3)
    assert int(after["popularity"].argmax()) == 3


@pytest.mark.parametrize("kind", FIELD)
def test_before_training_everybody_is_shown_what_is_popular(kind):
    """If the item vectors contain popularity alone, ranks are those of popularity."""
    generator = torch.Generator().manual_seed(0)
    weights = 1.0 / torch.arange(1, ITEMS + 1)
    rows = [torch.multinomial(weights, 6, generator=generator).tolist() for _ in range(USERS)]
    algo = kind(kind.Config(init_std=1e-4), AlgorithmContract().facts(mu=100.0))
    shared = AlgorithmContract.step(algo, algo.initial(), batch_of(rows), 0)
    model = algo.release(shared)
    scores = model.score(model.fit(batch_of(rows))).mean(0)
    popularity = torch.zeros(ITEMS)
    for row in rows:
        popularity[row] += 1
    ranks = torch.stack([scores.argsort().argsort().float(), popularity.argsort().argsort().float()])
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.8
