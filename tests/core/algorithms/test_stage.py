"""Stages are placed one after the other, each counts its own steps, and each gets its own sums alone."""

from collections.abc import Mapping

import pytest
import torch

from fedrec.algorithms.base import Shared
from fedrec.algorithms.popularity import PopularityModel
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.settings import Settings
from fedrec.testing.steps import Steps
from fedrec.testing.toy_users import ITEMS, batch_of


class Walk(Staged):
    """Popularity, then three rounds of one sum, then two of another; each update leaves its mark in the state."""

    name, Config, alongside = "walk", Settings, False

    @property
    def stages(self) -> tuple[Stage, ...]:
        def begin(shared: Shared, popularity: torch.Tensor, _release: PrivateSum) -> Shared:
            return shared | {"popularity": popularity}

        popularity = popularity_stage(self.facts, 0.4, begin, alongside=self.alongside)
        return (popularity, self.part("first", 3), self.part("second", 2))

    def part(self, name: str, rounds: int) -> Stage:
        def contribute(_shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
            return {name: DenseContribution(torch.full((len(users), 1), float(step)))}

        def update(shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
            assert sums.keys() == {name}
            mark = float(sums[name].value) / self.facts.users
            assert mark == step
            return shared | {name: torch.cat([shared[name], torch.tensor([mark])])}

        return Stage(rounds, (SumQuery(name, (1,), 9.0, 0.6 / 5),), contribute, update)

    def initial(self) -> Shared:
        empty = torch.zeros(0)
        return {"popularity": torch.ones(ITEMS), "first": empty, "second": empty}

    def release(self, shared: Shared) -> PopularityModel:
        return PopularityModel(shared["popularity"]).by(self.name)


class Alongside(Walk):
    alongside = True


@pytest.mark.parametrize(
    ("kind", "asked", "preparation"),
    [
        (Walk, [["popularity"], *[["first"]] * 3, *[["second"]] * 2], 4),
        (Alongside, [["popularity", "first"], *[["first"]] * 2, *[["second"]] * 2], 3),
    ],
)
def test_each_round_belongs_to_its_stages_in_order(kind: type[Walk], asked: list[list[str]], preparation: int) -> None:
    steps = Steps()
    algo = kind(Settings(), steps.facts(users=4, expected_cohort=4.0))
    assert [[query.name for query in algo.queries(round_index)] for round_index in range(algo.rounds)] == asked
    assert (algo.rounds, algo.preparation) == (len(asked), preparation)
    users = batch_of([[3], [3, 5], [3, 7], [1]])
    for round_index, names in enumerate(asked):
        assert list(algo.contribute(algo.initial(), users, round_index)) == names
    state = steps.train(algo, users)
    assert state["first"].tolist() == [0.0, 1.0, 2.0]
    assert state["second"].tolist() == [0.0, 1.0]
    assert int(state["popularity"].argmax()) == 3
    assert algo.queries(algo.rounds) == ()
    assert sum(
        query.budget_share for round_index in range(algo.rounds) for query in algo.queries(round_index)
    ) == pytest.approx(1)
