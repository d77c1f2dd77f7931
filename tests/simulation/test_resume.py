"""A run that was stopped goes on, one that ended stays as it is, and nothing that was released is made twice."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation
from fedrec_sim.report.progress import RunProgress

from fedrec.algorithms.discover import load_model
from fedrec.audit.evidence import salted
from fedrec.audit.log.ledger import Ledger, read_ledger
from fedrec.cli import run
from fedrec.run import records as recording
from fedrec.run import scenario_run
from fedrec.run.checkpoint import load_checkpoint
from fedrec.run.scenario import Scenario
from tests.simulation.test_simulate import ALS, POPULARITY, Simulate, model, simulate, summary, write

__all__ = ["simulate"]


def die_at(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real = InProcessFederation.clipped_sums

    def dying(self, algorithm, shared, round_index, cohort):
        if round_index == at and algorithm.name == "als":
            raise KeyboardInterrupt
        return real(self, algorithm, shared, round_index, cohort)

    monkeypatch.setattr(InProcessFederation, "clipped_sums", dying)


def test_a_seeded_run_that_was_killed_resumes_to_the_same_bits(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert simulate(*ALS, "--out", "whole", "--seed", 2, "--quiet") == 0
    with monkeypatch.context() as patch:
        die_at(patch, 1)
        assert simulate(*ALS, "--out", "r", "--seed", 2, "--quiet") == 130
    assert "fedrec simulate --resume --out r" in capsys.readouterr().err
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    whole, resumed = model(tmp_path / "whole"), model(tmp_path / "r")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert summary(tmp_path / "whole")["metrics"] == summary(tmp_path / "r")["metrics"]
    ledgers = [read_ledger(tmp_path / name / "release" / "privacy" / "ledger.jsonl")[0] for name in ("whole", "r")]
    charges = [
        [(entry.payload, entry.about) for entry in entries if entry.payload["type"] == "charge"] for entries in ledgers
    ]
    assert charges[0] == charges[1]
    assert len(ledgers[0]) == len(ledgers[1])
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0


def test_a_run_of_an_older_version_resumes_under_the_older_names_of_its_settings(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate(*ALS, "--out", "whole", "--seed", 2, "--quiet") == 0
    honest = Scenario.toml

    def older(self: Scenario, *rest: Any) -> str:
        return (
            honest(self, *rest)
            .replace("gram_clip_norm = ", "gram_clip = ")
            .replace("items_clip_norm =", "items_clip =")
        )

    with monkeypatch.context() as patch:
        patch.setattr(Scenario, "toml", older)
        die_at(patch, 1)
        assert simulate(*ALS, "--out", "r", "--seed", 2, "--quiet") == 130
    text = (tmp_path / "r/release/scenario.toml").read_text()
    assert "gram_clip = " in text
    assert simulate(*ALS, "--set", "algorithm.gram_clip=0.5", "--out", "r", "--seed", 2, "--resume", "--quiet") == 2
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert (tmp_path / "r/release/scenario.toml").read_text() == text, "the ledger fixes its digest"
    whole, resumed = model(tmp_path / "whole"), model(tmp_path / "r")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0


@pytest.mark.parametrize("written", ["checkpoint.safetensors", "model.safetensors"])
def test_a_disk_that_is_full_where_tensors_are_written_is_one_line(
    written: str, simulate: Simulate, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(name: Path, *rest: Any, **more: Any) -> Any:
        if written in str(name):
            raise OSError(errno.ENOSPC, "No space left on device", str(name))
        return open(name, *rest, **more)

    monkeypatch.setattr("fedrec.durable.open", full, raising=False)
    assert simulate(*ALS, "--out", "r", "--quiet") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in error
    assert written in error


def test_an_unseeded_run_that_drew_nothing_yet_begins_again_and_one_that_did_does_not(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedrec.run.coordinator.Coordinator._rounds", stopped)
        assert simulate(*ALS, "--out", "r", "--quiet") == 130
    (tmp_path / "r" / "private" / "checkpoint.safetensors").unlink()
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0
    entries, _ = read_ledger(tmp_path / "r" / "release" / "privacy" / "ledger.jsonl")
    types = [entry.payload["type"] for entry in entries]
    assert types == ["begin", *["charge"] * 4, "end", "files"]  # popularity, then three rounds of als
    (tmp_path / "r" / "private" / "checkpoint.safetensors").unlink()
    assert simulate("--resume", "--out", "r", "--quiet") == 2
    assert "has charges and lost its checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("written", [True, False])
def test_a_run_of_before_the_round_of_popularity_keeps_its_rounds(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """The text of an older run lacks the setting, or has the default of then; nobody gives it again."""

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedrec.run.coordinator.Coordinator._rounds", stopped)
        assert simulate(*ALS, "--set", "algorithm.popularity_share=0.0", "--out", "r", "--quiet") == 130
    text = tmp_path / "r" / "release" / "scenario.toml"
    assert "\npopularity_share = 0.0\n" in text.read_text()
    if not written:
        text.write_text(text.read_text().replace("\npopularity_share = 0.0\n", "\n"))
    for given in ([], ALS):
        assert simulate(*given, "--resume", "--out", "r", "--quiet") == 0
    entries, _ = read_ledger(tmp_path / "r" / "release" / "privacy" / "ledger.jsonl")
    assert [entry.payload["type"] for entry in entries].count("charge") == 3


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_that_is_resumed_changes_nothing(simulate: Simulate, tmp_path: Path) -> None:
    """The noise of its baselines was not kept: a second computation would give other figures for the same ledger."""
    assert simulate(*ALS, "--out", "r", "--quiet") == 0
    before = files(tmp_path / "r")
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    after = files(tmp_path / "r")
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()


def test_a_finished_run_resumed_under_other_code_changes_nothing_that_its_ledger_fixes(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate(*ALS, "--out", "r", "--quiet") == 0
    before = files(tmp_path / "r")
    monkeypatch.setattr("fedrec.audit.statement.run_records._commit", lambda: "another")
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert files(tmp_path / "r")["release/privacy/ledger.jsonl"] == before["release/privacy/ledger.jsonl"]


@pytest.mark.parametrize(
    "lost",
    [
        "release/model/manifest.json",
        "release/model/model.safetensors",
        "private/summary.json",
        "private/history.csv",
    ],
)
def test_what_a_finished_run_lost_is_made_again_and_verifies(simulate: Simulate, tmp_path: Path, lost: str) -> None:
    assert simulate(*ALS, "--out", "r", "--seed", 1, "--quiet") == 0
    (tmp_path / "r" / lost).unlink()
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert (tmp_path / "r" / lost).is_file()
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0


def test_a_finished_seeded_run_without_its_checkpoint_trains_again_and_verifies(
    simulate: Simulate, tmp_path: Path
) -> None:
    assert simulate(*ALS, "--out", "r", "--seed", 1, "--quiet") == 0
    (tmp_path / "r" / "private" / "checkpoint.safetensors").unlink()
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0


@pytest.mark.parametrize("dies_at", ["append", "seal", "replace"])
def test_a_run_that_dies_while_it_ends_ends_once(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """Killed before its `end` record, before the checkpoint of the ledger, or before the summary is in place."""

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    class Dying:
        def __init__(self, ledger: Ledger) -> None:
            self.entries, self.append, self.seal = ledger.entries, ledger.append, ledger.seal
            setattr(self, dies_at, died)

    with monkeypatch.context() as patch:
        if dies_at == "replace":
            patch.setattr(recording, "os", SimpleNamespace(replace=died))
        else:
            patch.setattr(scenario_run, "close", lambda ledger, *rest: recording.close(Dying(ledger), *rest))
        assert simulate(*ALS, "--out", "r", "--quiet") == 130
    assert not (tmp_path / "r" / "private" / "summary.json").exists()
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    entries, _ = read_ledger(tmp_path / "r" / "release" / "privacy" / "ledger.jsonl")
    ends = [entry.payload for entry in entries if entry.payload["type"] == "end"]
    told = (tmp_path / "r" / "private" / "summary.json").read_bytes()
    salt = (tmp_path / "r" / "private" / "salt").read_bytes()
    assert [end["private_files"]["summary.json"] for end in ends] == [salted.digest(salt, "summary.json", told)]
    assert (tmp_path / "r" / "release" / "privacy" / "report.html").is_file()
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0


def test_a_budget_that_ends_early_leaves_everything_and_exit_code_3(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as patch:
        die_at(patch, 1)
        assert simulate(*ALS, "--out", "r", "--quiet") == 130
    capsys.readouterr()
    assert simulate("--resume", "--out", "r", "--json") == 3
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert "budget" in captured.err.splitlines()[-1]
    assert told["finished"] is False
    assert told["privacy"]["epsilon"] <= 4
    assert told["privacy"]["rounds"] == told["cost"]["rounds"] + 1, "one round was charged and never released"
    assert told["metrics"]["full"]["hr@10"] >= 0
    load_model(tmp_path / "r" / "release" / "model")
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0
    assert "charged again" in capsys.readouterr().out
    assert (tmp_path / "r" / "release" / "privacy" / "statement.md").is_file()


def test_ctrl_c_finishes_the_round_and_wastes_nothing(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunProgress.round

    def interrupted(self, report):
        self.stop._ask(2, None)
        real(self, report)

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "round", interrupted)
        assert simulate(*ALS, "--out", "r", "--quiet") == 130
    assert load_checkpoint(tmp_path / "r" / "private" / "checkpoint.safetensors").round == 1
    assert simulate("--resume", "--out", "r", "--quiet") == 0


def test_a_run_goes_on_only_with_the_settings_that_it_began_with(simulate: Simulate, capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--seed", 1, "--quiet") == 0
    assert simulate("--resume", "--out", "r", "--set", "privacy.epsilon=8") == 2
    assert "privacy.epsilon was 4.0 and is 8.0 now" in capsys.readouterr().err
    assert simulate("--resume", "--out", "r", "--seed", 2) == 2
    assert "seed" in capsys.readouterr().err
    assert simulate(*POPULARITY, "--resume", "--out", "r", "--seed", 1, "--quiet") == 0


def test_a_run_goes_on_only_with_the_data_that_it_began_with(simulate: Simulate, tmp_path: Path, capsys: Any) -> None:
    events = "user_id,item_id,timestamp\n" + "".join(f"u{n % 30},i{n % 37},{n}\n" for n in range(300))
    log = write(tmp_path / "log.csv", events)
    arguments = ["--set", f"data.path={log}", "--set", "algorithm.name=popularity", "--set", "privacy.delta=1e-3"]
    assert simulate(*arguments, "--out", "r", "--quiet") == 0
    write(log, events + "u1,i36,999\n")
    assert simulate("--resume", "--out", "r", "--quiet") == 2
    assert "data" in capsys.readouterr().err.splitlines()[-1]
