"""A run that stops on its private looks: it pays in full, goes on after any crash, and knows nothing but noisy sums."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedrec.algorithms.base import PublicFacts
from fedrec.audit.entries.account import account
from fedrec.audit.log.ledger import Ledger, read_ledger
from fedrec.audit.statement.agreement import require_plan
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.statement import of_ledger
from fedrec.audit.verify.charges import _stopped
from fedrec.data.catalogue import Catalogue
from fedrec.errors import PrivacyError, VerificationError
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import PrivateSum, SumQuery
from fedrec.run.coordinator import Coordinator, Outcome
from tests.core.audit.ledgers import begin_record, begun
from tests.server.toy import ITEMS, Crash, CrashingFederation, Toy, ToyConfig, histories, private_sums, same

STALLS = (0.1, 9.0, 9.0, 9.0, 9.0, 9.0)  # such steps beat the noise of this tiny cohort
IMPROVES = (0.1, 9.0, 18.0, 27.0, 36.0, 45.0)
LOOKS, PATIENCE = 6, 2
ROUNDS = 2 * LOOKS
STOPS = 8
"""Finished rounds when `STALLS` stops: the fourth look is the second without improvement."""


def script(plan: PrivacyPlan, values: Sequence[float]) -> None:
    """Make every private look of the plan release `values`, whatever the data; an empty script changes nothing."""
    real = plan.privatise

    def privatise(round_index: int, query: SumQuery, total: torch.Tensor) -> PrivateSum:
        released = real(round_index, query, total)
        if query.name != "evaluation" or not values:
            return released
        looked = released.value.new_tensor([values[round_index // 2] * plan.expected_cohort] * 3)
        return PrivateSum(looked, released.noise_std)

    plan.privatise = privatise


def looking(
    folder: Path | None,
    values: Sequence[float] = STALLS,
    *,
    seed: int | None = 5,
    crash_at: int | None = None,
    patience: int = PATIENCE,
    data: int = 0,
    epsilon: Any = 2.0,
    sampling: float = 1.0,
    **options: Any,
) -> Coordinator:
    """A toy of six rounds with a look after each."""
    source = histories(seed=data)
    privacy = PrivacyConfig(epsilon=epsilon, delta=1e-3, sampling=sampling)
    facts = PublicFacts(Catalogue(tuple(map(str, range(ITEMS)))), len(source), len(source) * sampling, seed=11)
    rule = StoppingConfig(every=1, patience=patience)
    algorithm = PrivateEvaluation(
        Toy(ToyConfig(rounds=LOOKS), facts), PrivateEvaluationConfig(share=0.4, stopping=rule)
    )
    plan = PrivacyPlan.build(privacy, [algorithm.queries(r) for r in range(algorithm.rounds)], len(source), seed)
    script(plan, values)
    federation = CrashingFederation(source, plan, seed=11, batch_users=10)
    federation.at = crash_at
    if folder is None:
        return Coordinator(algorithm, federation, plan, **options)
    folder.mkdir(exist_ok=True)
    return Coordinator(
        algorithm, federation, plan, Ledger(folder / "ledger.jsonl"), folder / "checkpoint.safetensors", **options
    )


def payloads(folder: Path) -> list[dict[str, Any]]:
    return [entry.payload for entry in read_ledger(folder / "ledger.jsonl")[0]]


def charged(folder: Path) -> list[int]:
    return [payload["round"] for payload in payloads(folder) if payload["type"] == "charge"]


def comparable(outcome: Outcome) -> Any:
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in outcome.history]
    return outcome.rounds, outcome.stopped, outcome.exhausted, rows


@pytest.mark.parametrize("sampling", [1.0, 0.5])
def test_a_run_that_stops_pays_for_everything_that_was_planned(tmp_path: Path, sampling: float) -> None:
    coordinator = looking(tmp_path, sampling=sampling)
    outcome = coordinator.run()
    assert (outcome.rounds, len(outcome.history), outcome.exhausted) == (STOPS, STOPS, None)
    assert outcome.stopped is not None
    assert "private ndcg@10 of 9.0000" in outcome.stopped
    plan = coordinator.plan
    assert plan.charged == tuple(range(ROUNDS))
    assert plan.epsilon() == plan.epsilon(ROUNDS), "no odometer: the epsilon is the planned one"
    assert 1.99 < plan.epsilon()["pld"] <= 2.0
    assert charged(tmp_path) == list(range(ROUNDS))
    last = payloads(tmp_path)[-1]
    assert float(last["epsilon"]["pld"]) == pytest.approx(plan.epsilon()["pld"], abs=1e-6)
    types = [payload["type"] for payload in payloads(tmp_path)]
    assert types == ["charge"] * STOPS + ["stopped"] + ["charge"] * (ROUNDS - STOPS)
    noted = {"type": "stopped", "round": STOPS - 1, "why": outcome.stopped, "unrun": list(range(STOPS, ROUNDS))}
    assert payloads(tmp_path)[STOPS] == noted


def test_nothing_can_be_released_on_the_charges_of_what_was_left_out() -> None:
    coordinator = looking(None)
    outcome = coordinator.run()
    federation = coordinator.federation
    for round_index in range(STOPS, ROUNDS):
        with pytest.raises(PrivacyError, match="no unused charge"):
            private_sums(federation, coordinator.algorithm, outcome.shared, round_index)


def test_a_run_that_improves_is_the_run_that_cannot_stop(tmp_path: Path) -> None:
    short, long = looking(tmp_path / "a", IMPROVES), looking(tmp_path / "b", IMPROVES, patience=99)
    first, second = short.run(), long.run()
    assert (first.rounds, first.stopped) == (ROUNDS, None)
    assert same(first.shared, second.shared)
    assert comparable(first) == comparable(second)
    assert payloads(tmp_path / "a") == payloads(tmp_path / "b"), "looking costs the same whether or not it may stop"


def test_up_to_where_it_stops_a_run_is_the_run_that_cannot_stop() -> None:
    whole = looking(None, patience=99)
    states = []
    real = whole.algorithm.update
    whole.algorithm.update = lambda *a: states.append(real(*a)) or states[-1]
    assert whole.run().stopped is None
    stopped = looking(None).run()
    assert same(stopped.shared, states[STOPS - 1])


def test_the_decision_follows_from_the_noisy_sums_alone() -> None:
    """Other people, the same noisy sums: the same decision at the same round, and the same model."""
    first = looking(None, ())  # real looks at real toy data
    sums: list[PrivateSum] = []
    real = first.plan.privatise
    first.plan.privatise = lambda *a: sums.append(real(*a)) or sums[-1]
    outcome = first.run()
    other = looking(None, data=9)
    replayed = iter(sums)
    other.plan.privatise = lambda *_: next(replayed)
    again = other.run()
    assert outcome.stopped is not None
    assert (again.rounds, again.stopped) == (outcome.rounds, outcome.stopped)
    assert same(again.shared, outcome.shared)


@pytest.mark.parametrize("at", [0, 1, 5, STOPS - 1])
def test_a_crash_in_a_round_changes_nothing(tmp_path: Path, at: int) -> None:
    whole = looking(tmp_path / "whole").run()
    with pytest.raises(Crash):
        looking(tmp_path / "r", crash_at=at).run()
    resumed = looking(tmp_path / "r").run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert comparable(resumed) == comparable(whole)
    assert payloads(tmp_path / "r") == payloads(tmp_path / "whole")


def dying(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, at: int, *, after: bool) -> None:
    """`target.name` dies at its call number `at`, before or after it did its work."""
    real, calls = getattr(target, name), []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == at and not after:
            raise Crash
        result = real(*arguments, **options)
        if len(calls) == at:
            raise Crash
        return result

    monkeypatch.setattr(target, name, call)


@pytest.mark.parametrize("seed", [5, None])
@pytest.mark.parametrize(
    ("at", "after"),
    [*((at, False) for at in (STOPS, STOPS + 1, STOPS + 2, ROUNDS + 1)), (STOPS, True), (ROUNDS + 1, True)],
)
def test_a_crash_at_any_record_of_the_stop_changes_nothing(
    tmp_path: Path, at: int, after: bool, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records: the last charge, the stop, the charges of what is left out."""
    with monkeypatch.context() as patch:
        dying(patch, Ledger, "append", at, after=after)
        with pytest.raises(Crash):
            looking(tmp_path, seed=seed).run()
    coordinator = looking(tmp_path, seed=seed)
    outcome = coordinator.run(resume=True)
    assert outcome.rounds == STOPS
    assert outcome.stopped is not None
    repeated = seed is None and at == STOPS and after  # that round was charged, and is released anew
    twice = [STOPS - 1] if repeated else []
    paid = list(range(STOPS)) + twice + list(range(STOPS, ROUNDS))
    assert charged(tmp_path) == list(coordinator.plan.charged)
    assert charged(tmp_path) == (paid[:-1] if repeated else paid), "the cost of the run without the stop"
    assert [payload["type"] for payload in payloads(tmp_path)].count("stopped") == 1
    assert coordinator.plan.epsilon()["pld"] <= 2.0


@pytest.mark.parametrize("at", [STOPS, STOPS + 1])
def test_a_crash_while_the_state_of_a_look_is_saved_changes_nothing(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = looking(tmp_path / "whole").run()
    with monkeypatch.context() as patch:
        from fedrec.run.checkpoint import TrainingCheckpoint

        dying(patch, TrainingCheckpoint, "save", at, after=False)
        with pytest.raises(Crash):
            looking(tmp_path / "r").run()
    resumed = looking(tmp_path / "r").run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert payloads(tmp_path / "r") == payloads(tmp_path / "whole")


def test_a_stopped_run_resumes_to_itself(tmp_path: Path) -> None:
    first = looking(tmp_path).run()
    before = payloads(tmp_path)
    again = looking(tmp_path).run(resume=True)
    assert same(first.shared, again.shared)
    assert comparable(first) == comparable(again)
    assert payloads(tmp_path) == before


def test_a_ledger_that_tells_of_another_stop_is_refused(tmp_path: Path) -> None:
    looking(tmp_path).run()
    with pytest.raises(VerificationError, match="another stop"):
        looking(tmp_path, patience=99).run(resume=True)


def test_two_crashes_in_the_same_round_cost_no_more_than_one(tmp_path: Path) -> None:
    whole = looking(tmp_path / "whole").run()
    for resume in (False, True, True):
        with pytest.raises(Crash):
            looking(tmp_path / "r", crash_at=3).run(resume=resume)
    resumed = looking(tmp_path / "r").run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert payloads(tmp_path / "r") == payloads(tmp_path / "whole")


def test_the_statement_agrees_with_the_ledger_of_a_stopped_run(tmp_path: Path) -> None:
    coordinator = looking(tmp_path)
    coordinator.begin = begin_record(coordinator.plan, coordinator.ledger.key.public)
    outcome = coordinator.run()
    stated = of_ledger(coordinator.ledger)
    require_plan(stated, describe(coordinator.plan))
    assert stated.rounds == stated.rounds_planned == ROUNDS
    stop = {"round": STOPS - 1, "why": outcome.stopped, "unrun": list(range(STOPS, ROUNDS))}
    assert stated.stopped is not None
    assert stated.stopped.model_dump() == stop
    assert f"{ROUNDS - STOPS} rounds that it left out are charged" in as_text(stated)


def test_a_stop_that_was_not_paid_for_is_found(tmp_path: Path) -> None:
    coordinator = looking(tmp_path)
    coordinator.run()
    told = [*payloads(tmp_path), {"type": "end", "rounds": STOPS, "files": {}}]

    def faults(records: list[dict[str, Any]]) -> list[str]:
        return list(_stopped(account([begun(coordinator.plan), *records])))

    assert faults(told) == []
    assert "did not pay" in faults([*told[:-2], told[-1]])[0]
    assert "ended after" in faults([*told[:-1], {"type": "end", "rounds": STOPS + 1, "files": {}}])[0]


def test_without_privacy_a_run_may_stop_too() -> None:
    outcome = looking(None, epsilon="none").run()
    assert outcome.stopped is not None
    assert all(row["epsilon_pld"] is None for row in outcome.history)


def test_a_snapshot_is_nothing_that_devices_fetch(tmp_path: Path) -> None:
    history = looking(tmp_path, IMPROVES).run().history
    looks = [row["bytes_down"] for row in history[1::2]]
    assert max(looks) <= LOOKS * (3 * 4 + 8), "the sums and the size of their noise"
    assert os.path.getsize(tmp_path / "checkpoint.safetensors") > 0
