"""Under noise no baseline ranks worse than the popularity that the same budget could have released."""

import math
from collections.abc import Callable

import pytest
import torch

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.cofedrec import CoFedRec, CoFedRecConfig
from fedrec.algorithms.discover import algorithm
from fedrec.algorithms.fcf import FCF, FCFConfig
from fedrec.algorithms.fedrecon import FedRecon, FedReconConfig
from fedrec.algorithms.held_rows import LARGEST_SHARE, kept, kept_whole, popularity_budget
from fedrec.algorithms.pfedrec import PFedRec, PFedRecConfig
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from fedrec.algorithms.spectral import Spectral, SpectralConfig
from fedrec.algorithms.tower_sgd import TowerSGD, TowerSGDConfig
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.noise import hits, noisy, tasteless_rows
from fedrec.testing.toy_users import USERS, batch_of, planted_catalogue

BELOW = {
    "kernel-rank": "has a rule of its own, tested with it",
    "content": "asks no users",
    "popularity": "is popularity",
    "rating-biases": "predicts ratings",
    "sequence": "starts from public features, which noise cannot disprove",
    "sequence-residual": "is kernel-rank, with a rule of its own, and what exceeds the noise",
    "fedvlr": "ranks by public views as well",
}
"""Algorithms that the test leaves out, and why."""
FACTS = PublicFacts(planted_catalogue(), users=USERS, expected_cohort=float(USERS), mu=0.3, seed=11)
READERS = [[1, 2, 3], [4, 0], [2]]
"""Histories of popular items: some devices fit their own weight of popularity, which may fall below zero for others."""
STEPS = {"dim": 4, "rounds": 2}
HELD: list[Callable[[PublicFacts], Algorithm]] = [
    lambda facts: ALS(ALSConfig(**STEPS), facts),
    lambda facts: FCF(FCFConfig(**STEPS), facts),
    lambda facts: FedRecon(FedReconConfig(**STEPS, private_steps=2), facts),
    lambda facts: PFedRec(PFedRecConfig(**STEPS, private_steps=2), facts),
    lambda facts: CoFedRec(CoFedRecConfig(**STEPS, private_steps=2), facts),
    lambda facts: Spectral(SpectralConfig(rank=8, content_rank=4), facts),
    lambda facts: Spectral(SpectralConfig(method="subspace", subspace_rank=4), facts),
    lambda facts: TowerSGD(TowerSGDConfig(tower={"name": "id", "dim": 4}, rounds=1, targets=1, negatives=2), facts),
]


@pytest.mark.parametrize("make", HELD)
def test_rows_whose_sums_are_noise_leave_the_order_of_popularity(make: Callable[[PublicFacts], Algorithm]) -> None:
    """The attacker is noise alone: nobody has a history, so whatever a list adds to popularity is noise."""
    facts = PublicFacts(FACTS.catalogue, USERS, float(USERS), mu=FACTS.mu, seed=3)
    empty, readers = batch_of([[] for _ in range(USERS)]), batch_of(READERS)
    made = make(facts)
    shared = made.initial()
    generator = torch.Generator().manual_seed(2)
    popularity = torch.linspace(90.0, 1.0, 40)
    for number in range(made.rounds):
        sums = {}
        for query in made.queries(number):
            value = made.contribute(shared, empty, number)[query.name].weighted_sum(torch.ones(USERS))
            std = 0.1 if query.name == "popularity" else 10.0 * query.clip_norm
            value = popularity if query.name == "popularity" else value
            sums[query.name] = PrivateSum(value + std * torch.randn(value.shape, generator=generator), std)
        shared = made.update(shared, sums, number)
    items, _ = made.release(shared).recommend(readers, 30)
    for row, listed in zip(READERS, items.tolist(), strict=True):
        order = [item for item in shared["popularity"].argsort(descending=True).tolist() if item not in row]
        assert sum(one != other for one, other in zip(listed, order, strict=False)) <= 2, (listed, order)


def test_a_taught_group_moves_and_the_others_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    release = torch.randn(300, 4, generator=generator)
    release[:32] += 3.0
    part = kept(PrivateSum(release, 1.0), torch.arange(300.0, 0, -1))
    assert (part[:32] > 0.8).all()
    assert not part[32:].any()
    assert kept_whole(PrivateSum(release[40:], 1.0)) == 0
    assert kept_whole(PrivateSum(release[:32], 1.0)) > 0.8


def test_without_noise_rows_move_in_full() -> None:
    assert (kept(PrivateSum(torch.ones(5, 2), 0.0), torch.ones(5)) == 1).all()
    assert not kept(PrivateSum(torch.zeros(5, 2), 0.0), torch.ones(5)).any()


def test_popularity_gets_more_of_a_budget_that_cannot_pay_for_a_table() -> None:
    rich, poor = PublicFacts(FACTS.catalogue, 10**6, 1e6, mu=1.0), FACTS
    assert popularity_budget(rich, 0.2, 1000, 8) == 0.2
    assert 0.85 < popularity_budget(poor, 0.2, 10**5, 8) <= LARGEST_SHARE
    assert popularity_budget(PublicFacts(FACTS.catalogue, 10, 10.0), 0.2, 1000, 8) == pytest.approx(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["als", "fcf", "fedncf", "fedrecon", "pfedrec", "gpfedrec", "cofedrec", "fedrap"])
def test_lists_are_not_worse_than_by_popularity(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spectral", "tower-sgd"])
def test_lists_of_other_algorithms_are_not_worse_than_by_popularity(name: str) -> None:
    check(name)


def test_every_algorithm_is_tested_or_named() -> None:
    from fedrec.algorithms.discover import algorithms

    tested = {"als", "fcf", "fedncf", "fedrecon", "pfedrec", "gpfedrec", "cofedrec", "fedrap", "spectral", "tower-sgd"}
    assert {name for name in algorithms() if not name.startswith("_")} <= tested | set(BELOW)


def check(name: str) -> None:
    """Users whose events follow popularity alone; each seed has its own noise."""
    rows, held_out = tasteless_rows()
    users, kind = batch_of(rows), algorithm(name)
    best = [hits(noisy(Popularity(PopularityConfig(), FACTS), users, seed), users, held_out) for seed in (0, 1)]
    found = [hits(noisy(kind(kind.Config(), FACTS), users, seed), users, held_out) for seed in (0, 1)]
    spread = math.sqrt(0.25 / USERS)
    assert sum(found) / 2 > sum(best) / 2 - 2 * spread, (found, best)
