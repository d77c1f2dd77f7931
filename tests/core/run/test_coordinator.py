"""The order of a round, and what a crash may cost."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedrec.audit.log.envelope import Subject
from fedrec.audit.log.ledger import read_ledger
from fedrec.errors import InputError, VerificationError
from fedrec.json_types import Json
from fedrec.run.checkpoint import TrainingCheckpoint, load_checkpoint
from fedrec.run.coordinator import Outcome, RoundReport
from tests.core.audit import ledgers
from tests.server.toy import Crash, assemble, same

ROUNDS = 4


def charged(folder: Path) -> list[int]:
    payloads = [payload for payload, _ in records(folder)]
    return [payload["round"] for payload in payloads if payload["type"] == "charge"]


def records(folder: Path) -> list[tuple[Json, Subject]]:
    """Return the payloads of the ledger with their subjects."""
    return [(entry.payload, entry.about) for entry in read_ledger(folder / "ledger.jsonl")[0]]


def comparable(outcome: Outcome) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in outcome.history]


def test_a_charge_is_on_disk_before_anything_is_summed(tmp_path: Path) -> None:
    seen = []
    coordinator = assemble(tmp_path)
    real = coordinator.federation.clipped_sums

    def watched(algorithm, shared, round_index, cohort):
        seen.append((round_index, charged(tmp_path), load_checkpoint(coordinator.checkpoint).round))
        return real(algorithm, shared, round_index, cohort)

    coordinator.federation.clipped_sums = watched
    coordinator.run()
    assert seen == [(round_index, list(range(round_index + 1)), round_index) for round_index in range(ROUNDS)]


def test_the_checkpoint_holds_model_and_ledger_head_together(tmp_path: Path) -> None:
    coordinator = assemble(tmp_path, run={"public_seed": 11})
    outcome = coordinator.run()
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert same(kept.shared, outcome.shared)
    assert (kept.round, kept.ledger_entries, kept.ledger_head) == (ROUNDS, ROUNDS, coordinator.ledger.head)
    assert kept.history == outcome.history
    assert kept.run == {"public_seed": 11}


@pytest.mark.parametrize("epsilon", [2.0, "none"])
@pytest.mark.parametrize("at", range(ROUNDS))
def test_a_seeded_run_resumes_to_the_same_bits_without_paying_twice(tmp_path: Path, at: int, epsilon: Any) -> None:
    (tmp_path / "whole").mkdir()
    whole = assemble(tmp_path / "whole", epsilon=epsilon).run()
    with pytest.raises(Crash):
        assemble(tmp_path, epsilon=epsilon, crash_at=at).run()
    assert charged(tmp_path) == list(range(at + 1)), "the crash came after the charge"
    resumed = assemble(tmp_path, epsilon=epsilon).run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert comparable(resumed) == comparable(whole)
    ours, theirs = records(tmp_path), records(tmp_path / "whole")
    assert ours[0][1].name == theirs[0][1].name == "state"
    assert ours == theirs


@pytest.mark.parametrize("at", range(ROUNDS))
def test_a_seeded_run_resumes_after_a_crash_while_the_state_is_saved(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = assemble(None).run()
    real = os.replace
    saves = []

    def torn(source, target):
        if target.name != "checkpoint.safetensors":
            return real(source, target)
        saves.append(target)
        if len(saves) == at + 2:  # the first is the state before round 0
            raise Crash
        return real(source, target)

    monkeypatch.setattr(os, "replace", torn)
    with pytest.raises(Crash):
        assemble(tmp_path).run()
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").round == at
    resumed = assemble(tmp_path).run(resume=True)
    assert same(resumed.shared, whole.shared)
    assert charged(tmp_path) == list(range(ROUNDS))


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    first = assemble(tmp_path).run()
    again = assemble(tmp_path).run(resume=True)
    assert same(first.shared, again.shared)
    assert charged(tmp_path) == list(range(ROUNDS))


def test_an_unseeded_crash_costs_budget_and_never_hides_it(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        assemble(tmp_path, seed=None, crash_at=1).run()
    coordinator = assemble(tmp_path, seed=None)
    outcome = coordinator.run(resume=True)
    assert charged(tmp_path) == [0, 1, 1, 2], "the repeated round was paid for again, the last one was not affordable"
    assert outcome.rounds == 3
    assert outcome.exhausted is not None
    assert "budget" in outcome.exhausted
    assert coordinator.plan.epsilon()["pld"] <= 2.0
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").round == 3


def test_an_unseeded_run_without_a_crash_finishes(tmp_path: Path) -> None:
    assert assemble(tmp_path, seed=None).run().exhausted is None


def test_unseeded_noise_differs_between_runs_and_seeded_noise_repeats() -> None:
    assert not same(assemble(None, seed=None).run().shared, assemble(None, seed=None).run().shared)
    assert same(assemble(None).run().shared, assemble(None).run().shared)
    assert not same(assemble(None).run().shared, assemble(None, seed=6).run().shared)


def test_a_stop_in_the_callback_leaves_the_round_on_disk(tmp_path: Path) -> None:
    def stop(report: RoundReport) -> None:
        if report.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble(tmp_path, seed=None, on_round=stop).run()
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").round == 2
    outcome = assemble(tmp_path, seed=None).run(resume=True)
    assert outcome.exhausted is None, "a stop between rounds wastes no budget"
    assert charged(tmp_path) == list(range(ROUNDS))


def test_reports_show_the_expected_cohort_and_never_the_realised_one(tmp_path: Path) -> None:
    reports: list[RoundReport] = []
    coordinator = assemble(tmp_path, config={"sampling": 0.5}, on_round=reports.append)
    sizes = {len(coordinator.plan.sample(round_index)) for round_index in range(ROUNDS)}
    coordinator.run()
    assert {report.users for report in reports} == {18.5}
    assert len(sizes) > 1
    assert reports[0].bytes_up == 4 * (12 + 2)
    assert reports[0].bytes_down == 4 * (12 + 2)
    assert {"load", "contribute", "clip", "sum", "noise", "update"} == reports[0].phases.keys()
    spent = [report.epsilon["pld"] for report in reports]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(2.0, abs=0.01)


def test_without_privacy_epsilon_is_unknown_and_never_zero(tmp_path: Path) -> None:
    outcome = assemble(tmp_path, epsilon="none").run()
    assert all(row["epsilon_pld"] is None for row in outcome.history)


def test_observations_stay_in_the_history(tmp_path: Path) -> None:
    outcome = assemble(
        tmp_path, observe=lambda round_index, shared: {"full hr@10": 0.5} if round_index % 2 else {}
    ).run()
    assert [row.get("full hr@10") for row in outcome.history] == [None, 0.5, None, 0.5]


def restored(folder: Path, other: Path) -> None:
    """Put another ledger in place, with the checkpoint that belongs to it."""
    for name in ("ledger.jsonl", "checkpoint"):
        (other / name).rename(folder / name)


def test_a_state_without_its_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assemble(tmp_path).run()
    assemble(tmp_path / "other", rounds=2).run()
    restored(tmp_path, tmp_path / "other")
    with pytest.raises(VerificationError, match="holds 2"):
        assemble(tmp_path).run(resume=True)


def test_a_ledger_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assemble(tmp_path).run()
    assemble(tmp_path / "other", epsilon=1.0).run()
    restored(tmp_path, tmp_path / "other")
    with pytest.raises(VerificationError, match="another run"):
        assemble(tmp_path).run(resume=True)


def test_a_state_other_than_the_one_that_was_charged_is_refused(tmp_path: Path) -> None:
    """The same noise on another sum would give the difference of the sums away."""
    with pytest.raises(Crash):
        assemble(tmp_path, crash_at=2).run()
    path = tmp_path / "checkpoint.safetensors"
    kept = load_checkpoint(path)
    replace(kept, shared=kept.shared | {"vector": kept.shared["vector"] + 1}).save(path)
    with pytest.raises(VerificationError, match="differs"):
        assemble(tmp_path).run(resume=True)


def test_the_beginning_stands_before_the_first_charge_and_counts_as_none(tmp_path: Path) -> None:
    begin = ledgers.begin_record(ledgers.plan_of())
    with pytest.raises(Crash):
        assemble(tmp_path, seed=None, crash_at=2, begin=begin).run()
    assert assemble(tmp_path, seed=None, begin=begin).run(resume=True).rounds == 3
    assert [payload["type"] for payload, _ in records(tmp_path)] == ["begin", *["charge"] * 4]
    assert charged(tmp_path) == [0, 1, 2, 2]
    assert records(tmp_path)[3][1] == records(tmp_path)[4][1], "both started from the same state"


def test_a_charge_that_differs_from_the_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        assemble(tmp_path, crash_at=2).run()
    with pytest.raises(VerificationError, match="differs"):
        assemble(tmp_path, epsilon=1.0).run(resume=True)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for content in (b"", b"nonsense", os.urandom(200)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="checkpoint"):
            load_checkpoint(path)
    with pytest.raises(InputError, match="checkpoint"):
        load_checkpoint(tmp_path / "none")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr("fedrec.run.checkpoint.VERSION", 99)
    TrainingCheckpoint(1, {"a": torch.ones(2)}).save(path)
    monkeypatch.undo()
    with pytest.raises(InputError, match="version 99"):
        load_checkpoint(path)


def test_a_checkpoint_keeps_tensors_that_share_memory_and_empty_states(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    base = torch.arange(6.0)
    TrainingCheckpoint(1, {"a": base, "b": base, "c": base.view(2, 3).T}).save(path)
    kept = load_checkpoint(path).shared
    assert torch.equal(kept["c"], base.view(2, 3).T)
    assert torch.equal(kept["a"], kept["b"])
    TrainingCheckpoint(0, {}).save(path)
    assert load_checkpoint(path).shared == {}
    assert json.dumps(load_checkpoint(path).history) == "[]"
