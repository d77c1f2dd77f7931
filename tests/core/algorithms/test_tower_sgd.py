"""The contract, for every tower and for both forms of a contribution."""

import resource
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.tower_sgd import TowerSGD, TowerSGDConfig
from fedrec.data.catalogue import Catalogue
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.evaluation.ratings import RatingModel
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import parse
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import GROUPS, ITEMS, USERS, batch_of, close, planted_catalogue
from fedrec.towers.examples import Targets
from fedrec.towers.id import IdConfig, IdTower
from fedrec.towers.local import LocalContribution
from fedrec.towers.objective import Objective


class TowerContract(AlgorithmContract):
    tower: dict[str, Any]
    settings: dict[str, Any] = {}

    def make(self, facts: PublicFacts) -> Algorithm:
        config = {"rounds": 12, "targets": 2, "negatives": 6, "learning_rate": 0.05} | self.settings
        return TowerSGD(TowerSGDConfig(tower=self.tower, **config), facts)


class TestId(TowerContract):
    tower = {"name": "id", "dim": 8, "init_std": 1.0}


class TestContent(TowerContract):
    tower = {"name": "content", "dim": 6, "features": 8}


class TestHybrid(TowerContract):
    tower = {"name": "hybrid", "dim": 6, "features": 8, "hidden": 5, "id_scale": 0.5}
    settings = {"decay": 0.9, "hold_out": "next", "optimizer": "sgd", "solve_steps": 20, "averaged": 0.5}


class TestPeopleAndLocalSteps(TowerContract):
    """With a network for people: toy users have attributes, and some have none."""

    tower = {"name": "hybrid", "dim": 6, "features": 8, "hidden": 5}
    settings = {
        "local_steps": 3,
        "decay": 0.9,
        "people": {
            "attributes": {"likes": ["taste-0", "taste-1", "taste-2"], "age": {"limits": [25, 30]}},
            "layers": [3],
        },
    }


def algo_of_events() -> Algorithm:
    return TowerSGD(TowerSGDConfig(), PublicFacts(planted_catalogue(), USERS, float(USERS)))


def rated_users(seed: int, users: int = USERS) -> UserBatch:
    """Everybody rates twelve items: 5 in the taste that the user shares with the item, 2 elsewhere."""
    generator = np.random.default_rng(seed)
    rows = [[int(i) for i in generator.choice(ITEMS, 12, replace=False)] for _ in range(users)]
    ratings = [5.0 if item % GROUPS == user % GROUPS else 2.0 for user, row in enumerate(rows) for item in row]
    return replace(batch_of(rows), ratings=torch.tensor(ratings))


@pytest.mark.parametrize("name", ["id", "content", "hybrid"])
def test_ratings_are_predicted_better_than_by_their_mean(name: str) -> None:
    facts = PublicFacts(planted_catalogue(), USERS, float(USERS))
    config = TowerSGDConfig(
        tower={"name": name, "dim": 8, "max_norm": 10.0, "init_std": 1.0} if name == "id" else {"name": name, "dim": 8},
        loss="squared",
        ratings=True,
        rounds=40,
        learning_rate=0.05,
        reg=0.1,
        targets=4,
        negatives=1,
    )
    algo = TowerSGD(config, facts)
    assert [query.name for query in algo.queries(0)] == ["ratings"]
    assert [query.name for query in algo.queries(algo.rounds - 1)] == ["tower"]
    model = algo.release(AlgorithmContract().train(algo, rated_users(0)))
    others = rated_users(1)
    predicted = model.score(model.fit(others))
    taste = torch.arange(USERS)[:, None] % GROUPS == torch.arange(ITEMS) % GROUPS
    truth = torch.where(taste, 5.0, 2.0)
    unseen = torch.ones_like(truth, dtype=torch.bool)
    unseen[others.owners, others.items] = False
    error = (predicted - truth)[unseen].square().mean().sqrt()
    assert error < 0.7 * truth[unseen].std()
    assert isinstance(model, RatingModel)
    candidates = torch.arange(5).expand(USERS, 5)
    assert close(model.predict(model.fit(others), candidates), predicted[:, :5].clamp(1, 5))
    assert not isinstance(algo_of_events().release(algo_of_events().initial()), RatingModel)


def test_a_model_of_ratings_asks_for_them() -> None:
    algo = TowerSGD(TowerSGDConfig(loss="squared", ratings=True), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    model = algo.release(algo.initial())
    with pytest.raises(InputError, match="ratings = false"):
        model.fit(batch_of([[1, 2]]))
    with pytest.raises(InputError, match="needs the new event's rating"):
        model.fold_in(model.fit(rated_users(0)), torch.zeros(USERS, dtype=torch.int64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tower": {"name": "hybird"}}, "hybrid"),
        ({"tower": {"name": "id", "hiden": 3}}, r"\[algorithm.tower\] of tower 'id'.*'hiden'"),
        ({"tower": {"name": "content", "dim": 0}}, "'dim' = 0"),
        ({"ratings": True}, "needs loss = 'squared'"),
        ({"rating_low": 4.0}, "must ascend"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(TowerSGDConfig, settings, "here")
    assert "\n" not in str(caught.value)


def test_what_the_user_holds_out_is_not_in_the_vector() -> None:
    """Each item's vector is an axis of its own, so a target in the fitted history would have a high score."""
    tower = {"name": "id", "dim": ITEMS, "init_std": 1e-9}
    algo = TowerSGD(TowerSGDConfig(tower=tower, targets=4), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    shared = algo.initial() | {"tower.table.weight": torch.eye(ITEMS)}
    part = algo.contribute(shared, batch_of([list(range(0, 20, 2))]), 1)["tower"]
    assert isinstance(part, LocalContribution)
    objective = part.objective
    known = objective.vectors[0] > 1e-3
    targets = objective.targets.items[0, :, 0]
    assert int(known.sum()) == 6
    assert not known[targets].any()


def test_momentum_adam_and_averaging_are_those_of_the_textbook() -> None:
    facts = PublicFacts(planted_catalogue(), USERS, 4.0)
    gradients = [torch.randn(ITEMS * 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    for name, optimizer in (
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.999))),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
    ):
        settings: dict[str, Any] = {"optimizer": name, "learning_rate": 0.1, "momentum": 0.8, "averaged": 0.5}
        config = TowerSGDConfig(tower={"name": "id", "dim": 3}, rounds=4, **settings)
        algo = TowerSGD(config, facts)
        shared = algo.initial()
        parameter = shared["tower.table.weight"].flatten().clone().requires_grad_()
        oracle, path = optimizer([parameter]), []
        for step, gradient in enumerate(gradients):
            shared = algo.update(shared, {"tower": PrivateSum(4 * gradient, 0.0)}, step + 1)
            parameter.grad = gradient
            oracle.step()
            path.append(parameter.detach().clone())
        assert torch.allclose(shared["tower.table.weight"].flatten(), path[-1], atol=1e-5)
        assert torch.allclose(shared["average"], (path[2] + path[3]) / 2, atol=1e-5)


def test_memory_does_not_grow_with_users_times_parameters() -> None:
    """256 users x 20,000 x 64 parameters in float64 would be 2.6 GB."""
    items, generator = 20_000, torch.Generator().manual_seed(0)
    tower = IdTower(IdConfig(dim=64), Catalogue(ids=tuple(map(str, range(items)))), 0).double()
    chosen = torch.randint(0, items, (256, 4, 21), generator=generator)
    targets = Targets(chosen, None, torch.ones(256, 4, dtype=torch.bool))
    objective = Objective(torch.randn(256, 64, generator=generator), targets, torch.zeros(items), 1.0, "softmax")
    LocalContribution(tower, objective.take(torch.arange(2))).norms()  # imports are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    part = LocalContribution(tower, objective)
    assert part.weighted_sum(1 / part.norms()).isfinite().all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024
