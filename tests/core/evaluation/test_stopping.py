"""The rule that stops a run, and the looks that it is asked about."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrec.errors import InputError
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig, best, stalled
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import parse
from tests.core.evaluation.test_private import Counts, batch, build

VALUES = st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=12)


def config(**changes: object) -> StoppingConfig:
    return parse(StoppingConfig, {"every": 1, **changes}, "test")


def slow(values: list[float], std: float, rule: StoppingConfig) -> bool:
    """The looks that counted, by their definition; then how many came after the last of them."""
    counted = [0]
    for place in range(1, len(values)):
        if values[place] > values[counted[-1]] + rule.min_improvement * std:
            counted.append(place)
    return len(values) - 1 - counted[-1] >= rule.patience


@given(VALUES, st.floats(0, 0.3), st.integers(1, 4), st.floats(0, 3))
def test_the_rule_is_its_definition(values: list[float], std: float, patience: int, least: float) -> None:
    rule = config(patience=patience, min_improvement=least)
    assert (stalled(values, [std] * len(values), rule) is not None) == slow(values, std, rule)


@given(st.floats(0.001, 0.1), st.integers(1, 4))
def test_improving_by_more_than_the_noise_never_stops(std: float, patience: int) -> None:
    values = [1.5 * std * step for step in range(20)]
    assert stalled(values, [std] * 20, config(patience=patience)) is None


def test_small_steps_count_once_they_add_up() -> None:
    values = [0.1 + 0.004 * step for step in range(9)]
    assert stalled(values, [0.01] * 9, config(patience=3)) is None
    assert stalled(values, [0.01] * 9, config(patience=2)) is not None


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_a_flat_metric_stops_after_patience_looks_and_says_why(patience: int) -> None:
    rule = config(patience=patience, metric="hr@10")
    flat = [[0.2] * looks for looks in range(1, patience + 2)]
    told = [stalled(values, [0.01] * len(values), rule) for values in flat]
    assert told[:-1] == [None] * patience
    assert "private hr@10 of 0.2000" in told[-1]
    assert "0.0100" in told[-1]


def test_the_best_look_is_the_first_of_the_highest() -> None:
    assert best([0.1, 0.3, 0.2, 0.3]) == 1


@pytest.mark.parametrize("metric", ["full ndcg@10", "sampled-99 hr@10", "ndcg@100", "loss"])
def test_a_true_metric_stops_nothing(metric: str) -> None:
    with pytest.raises(InputError, match="never stops on true metrics"):
        config(metric=metric)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"patience": 0}, {"min_improvement": -1}, {"release": "worst"}])
def test_settings_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        config(**wrong)


# ---- looks


class Long(Counts):
    """Two rounds that prepare, then five."""

    rounds = 7
    preparation = 2
    seen: list[int]

    def queries(self, round_index):
        return tuple(type(q)(q.name, q.shape, q.clip_norm, 1 / 7) for q in super().queries(round_index))

    def contribute(self, shared, users, round_index):
        self.seen = [*getattr(self, "seen", []), round_index]
        return super().contribute(shared, users, round_index)


def long(**stopping: object) -> PrivateEvaluation:
    inner = Long(Counts.Config(), build().facts)
    return PrivateEvaluation(inner, PrivateEvaluationConfig(share=0.3, stopping=config(**stopping)))


def run(algorithm: PrivateEvaluation, values: list[float], std: float = 0.06, until: int | None = None) -> list[dict]:
    """Return the states after each round; the looks report `values` (of both metrics)."""
    states, values, shared = [], list(values), algorithm.initial()
    for round_index in range(algorithm.rounds if until is None else until):
        (query,) = algorithm.queries(round_index)
        value = algorithm.contribute(shared, batch(), round_index)[query.name].weighted_sum(torch.ones(6))
        if query.name == "evaluation":
            value = torch.tensor([values.pop(0) * 6] * 2 + [6.0])
        shared = algorithm.update(shared, {query.name: PrivateSum(value, std)}, round_index)
        states.append(shared)
    return states


@pytest.mark.parametrize(
    ("every", "after"), [(1, (3, 4, 5, 6, 7)), (2, (4, 6, 7)), (3, (5, 7)), (4, (6, 7)), (None, (7,))]
)
def test_looks_come_every_so_many_rounds_that_build_a_model_and_after_the_last(every, after) -> None:
    algorithm = long(every=every)
    assert algorithm.trained == after
    names = [algorithm.queries(round_index)[0].name for round_index in range(algorithm.rounds)]
    trained = [names[:place].count("counts") for place, name in enumerate(names) if name == "evaluation"]
    assert trained == list(after)
    shares = [query.budget_share for round_index in range(algorithm.rounds) for query in algorithm.queries(round_index)]
    assert math.fsum(shares) == pytest.approx(1)
    looks = [share for share, name in zip(shares, names, strict=True) if name == "evaluation"]
    assert looks == pytest.approx([0.3 / len(after)] * len(after))


@pytest.mark.parametrize("every", [5, 50])
def test_a_look_that_could_stop_nothing_is_refused(every: int) -> None:
    with pytest.raises(InputError, match="smaller number"):
        long(every=every)


def test_an_algorithm_of_one_round_has_its_look_at_the_end() -> None:
    class Once(Long):
        rounds, preparation = 3, 2

    inner = Once(Counts.Config(), build().facts)
    rule = PrivateEvaluationConfig(stopping=config(every=5))
    assert PrivateEvaluation(inner, rule).trained == (3,)


def test_training_keeps_its_round_numbers_and_knows_nothing_of_the_looks() -> None:
    looking, once = long(every=1), long(every=None)
    states, alone = run(looking, [0.1, 0.2, 0.3, 0.4, 0.5]), run(once, [0.1])
    assert looking.inner.seen == once.inner.seen == list(range(7))
    assert torch.equal(states[-1]["counts"], alone[-1]["counts"])


def test_every_look_has_noise_of_its_own() -> None:
    algorithm = long(every=1)
    rounds = [algorithm.queries(round_index) for round_index in range(algorithm.rounds)]
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=1.0, delta=1e-3), rounds, 6, seed=3)
    noise = []
    for round_index, (query,) in enumerate(rounds):
        plan.charge(round_index)
        if query.name == "evaluation":
            noise.append(plan.privatise(round_index, query, torch.zeros(3, dtype=torch.int64)).value)
    assert len({tuple(value.tolist()) for value in noise}) == 5
    stds = {
        plan.noise_std(round_index, "evaluation")
        for round_index in range(algorithm.rounds)
        if round_index in algorithm._looks
    }
    assert len(stds) == 1


@pytest.mark.parametrize("release", ["best", "last"])
def test_what_is_released_when_the_run_is_over(release: str) -> None:
    algorithm = long(every=1, patience=2, release=release)
    states = run(algorithm, [0.1, 0.4, 0.39, 0.2], until=10)  # stops after the fourth look
    for state in states[:-1]:
        assert algorithm.stop(state) is None
        assert torch.equal(algorithm.release(state).values, state["counts"]), "while it runs, the model as it is"
        assert algorithm.private_metrics(state) == {}
    over = states[-1]
    assert algorithm.stop(over) is not None
    kept = {"best": 1, "last": 3}[release]
    at = algorithm.looks(over)[kept]["round"]
    assert torch.equal(algorithm.release(over).values, states[at]["counts"])
    told = algorithm.private_metrics(over)["ndcg@10"]
    assert told == {"value": pytest.approx([0.1, 0.4, 0.39, 0.2][kept]), "std": pytest.approx(0.01)}


def test_after_the_last_look_there_is_nothing_to_stop() -> None:
    algorithm = long(every=2, patience=2)
    states = run(algorithm, [0.4, 0.1, 0.1])
    assert algorithm.stop(states[-1]) is None
    first = algorithm.looks(states[-1])[0]
    assert (first["after"], first["round"]) == (4, 4)
    assert torch.equal(algorithm.release(states[-1]).values, states[4]["counts"])


def test_the_decision_is_a_function_of_the_state_alone() -> None:
    """Another object, which has never met a user, decides alike: nothing was carried past the noise."""
    algorithm = long(every=1, patience=2)
    for state in run(algorithm, [0.1, 0.4, 0.39, 0.2], until=10):
        assert long(every=1, patience=2).stop(state) == algorithm.stop(state)
