"""A tower over a fixed `kernel-rank`: one budget, offsets from earlier events, and the base where noise hides it."""

import math
from typing import Any

import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.residual_model import ResidualModel
from fedrec.algorithms.sequence_residual import SequenceResidual, SequenceResidualConfig
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, USERS, batch_of, close, edge_rows, planted_catalogue, planted_rows

SETTINGS: dict[str, Any] = {
    **{"base": {"rounds": 2, "cooccurrence": False, "decays": (1.0, 0.5), "hidden": 0}, "dim": 3, "columns": 6},
    **{"length": 9, "rounds": 2, "targets": 2, "negatives": 12, "learning_rate": 0.02},
}


def algorithm_of(facts: PublicFacts, **settings: Any) -> SequenceResidual:
    return SequenceResidual(SequenceResidualConfig.model_validate(SETTINGS | settings), facts)


def facts_of(mu: float = math.inf) -> PublicFacts:
    return PublicFacts(planted_catalogue(), USERS, float(USERS), mu=mu, seed=3)


@pytest.mark.slow
class TestSequenceResidual(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return algorithm_of(facts)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_both_parts_are_priced_before_the_first_round(share: float) -> None:
    algo = algorithm_of(facts_of(mu=0.5), share=share)
    parts = [sum(query.budget_share for query in algo.queries(number)) for number in range(algo.rounds)]
    assert sum(parts) == pytest.approx(1.0)
    assert sum(parts[algo.preparation :]) == pytest.approx(share)
    assert algo.base.facts.mu == pytest.approx(0.5 * math.sqrt(1 - share))
    assert algo.tower.facts.mu == pytest.approx(0.5 * math.sqrt(share))


def test_offsets_are_the_released_scores_from_the_events_before_each_target() -> None:
    algo = algorithm_of(facts_of())
    users = batch_of(edge_rows())
    states = AlgorithmContract().run(algo, batch_of(planted_rows()[0]))
    shared = algo.for_devices(states[algo.preparation], algo.preparation)
    examples = algo._examples(shared, users)
    model = algo._base_model(shared)
    rows = edge_rows()
    checked = 0
    for row, history in enumerate(rows):
        for place in range(2):
            if not examples.valid[row, place]:
                continue
            scores = model.score(model.fit(batch_of([history[: len(history) - 1 - place]])))[0]
            assert int(examples.targets[row, place]) == history[-1 - place]
            assert close(examples.offsets[row, place, 0], scores[history[-1 - place]])
            outside = examples.outside[row]
            assert close(examples.offsets[row, place, 1:][outside], scores[examples.negatives[row][outside]])
            assert (examples.offsets[row, place, 1:][~outside] < -1e8).all()
            checked += 1
    assert checked > 10


def test_the_base_is_fixed_while_the_tower_learns_and_is_all_that_is_left_within_the_noise() -> None:
    users = batch_of(planted_rows()[0])
    for mu, moved in ((1e-3, False), (1e3, True)):
        algo = algorithm_of(facts_of(mu=mu))
        states = AlgorithmContract().run(algo, users, noise=1 / mu)
        first, last = algo._over(states[algo.preparation]), states[-1]
        fixed = [name for name in first if name.startswith("base")]
        assert fixed
        assert all(torch.equal(first[name], last[name]) for name in fixed)
        model = algo.release(last)
        assert isinstance(model, ResidualModel)
        start = algo.tower._start["encoder.mixing"]
        assert torch.equal(model.tower.encoder.state_dict()["mixing"], start) != moved
        odd = batch_of(edge_rows())
        scores, base = model.score(model.fit(odd)), model.base.score(model.base.fit(odd))
        assert scores.shape == (len(odd), ITEMS)
        assert close(scores, base, 0.2) or moved
