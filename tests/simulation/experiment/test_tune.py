"""`fedrec tune`: spaces, validation only, a study that goes on, and the mark that the best settings carry."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fedrec_sim.experiment.tune import Dimension, parse_space

from fedrec.cli import run

pytest.importorskip("optuna", reason="needs the extra fedrec[tune]")

SMALL = ("data.users=60", "data.items=80", "data.interactions_per_user=10", "algorithm.name=als", "algorithm.rounds=2")
SETTINGS = [part for change in SMALL for part in ("--set", change)]


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("algorithm.reg=log:0.01:1", Dimension("algorithm.reg", 0.01, 1, log=True)),
        ("algorithm.reg=lin:0:1", Dimension("algorithm.reg", 0, 1)),
        ("algorithm.dim=int:4:16", Dimension("algorithm.dim", 4, 16, whole=True)),
        ("algorithm.dim=logint:4:16", Dimension("algorithm.dim", 4, 16, log=True, whole=True)),
        ("algorithm.dim=4,8", Dimension("algorithm.dim", choices=(4, 8))),
        ("algorithm.name=als,kernel-rank", Dimension("algorithm.name", choices=("als", "kernel-rank"))),
    ],
)
def test_a_space(text: str, dimension: Dimension) -> None:
    assert parse_space(text) == dimension


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--space", "algorithm.reg"], "must be key=log"),
        (["--space", "algorithm.reg=lgo:0.1:1"], "must be key=log"),
        (["--space", "algorithm.reg=log:1:0.1"], "LOW below HIGH"),
        (["--space", "algorithm.reg=log:0:1"], "above 0"),
        (["--space", "algorithm.dim=int:1:2.5"], "two numbers"),
        (["--space", "algorithm.rge=log:0.1:1"], "Did you mean 'reg'?"),
        (["--space", "algorithm.dim=4,8", "--set", "evaluation.on=test"], "uses validation data only"),
    ],
)
def test_bad_input_is_told_before_a_trial(
    arguments: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    assert run(["tune", "quickstart", *SETTINGS, *arguments, "--out", str(tmp_path / "t")]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert says in errors[0]
    assert not in_process


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(["tune", "quickstart", "--space", "algorithm.dim=4,8"]) == 2
    assert "pip install 'fedrec[tune]'" in capfd.readouterr().err


def test_a_study_goes_on_and_its_best_settings_are_marked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    out = tmp_path / "t"
    command = ["tune", "quickstart", *SETTINGS, "--space", "algorithm.reg=log:0.001:1", "--out", str(out)]
    command += ["--set", "evaluation.on=validation"]  # which the best scenario does not keep
    assert run([*command, "--trials", "2"]) == 0
    assert len(in_process) == 2
    assert run([*command, "--trials", "3"]) == 0
    assert len(in_process) == 3  # the third draw differs from the first two, and the first two are not run again
    told = capfd.readouterr()
    assert "does NOT cover how they were found" in told.err
    runs = [
        (folder, json.loads((folder / "private" / "summary.json").read_text())) for folder in (out / "trials").iterdir()
    ]
    assert len(runs) == 3
    assert {summary["evaluation"]["on"] for _, summary in runs} == {"validation"}
    folder, summary = max(runs, key=lambda pair: pair[1]["metrics"]["full"]["ndcg@10"])
    assert f"full:ndcg@10 {summary['metrics']['full']['ndcg@10']:.4f} on validation" in told.out
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["algorithm"] == tomllib.loads((folder / "release" / "scenario.toml").read_text())["algorithm"]
    assert best["evaluation"]["on"] == "test"
    assert best["provenance"]["tuned_on"] == "quickstart"
    assert run(["simulate", str(out / "best.toml"), "--seed", "1", "--out", str(tmp_path / "r")]) == 0
    shown = capfd.readouterr().out
    assert "tuned on the private data of quickstart" in shown
    stated = json.loads((tmp_path / "r" / "release" / "privacy" / "statement.json").read_text())
    assert stated["tuned_on"] == "quickstart"
    assert any("tuned on the private data of quickstart" in line for line in stated["not_protected"])
    assert (
        "tuned on the private data of quickstart"
        in (tmp_path / "r" / "release" / "privacy" / "statement.md").read_text()
    )
    assert run([*command, "--trials", "4", "--set", "algorithm.dim=3"]) == 2
    assert "study of something else" in capfd.readouterr().err


def test_a_failed_trial_stops_no_other_and_a_broken_off_one_is_taken_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedrec_sim.experiment import tune

    from fedrec.errors import FedrecError

    real = tune.child_scenario
    asked: list[float] = []

    def fails_once(scenario: Any, out: Path, data_dir: Path | None) -> Any:
        asked.append(scenario.algorithm_config.reg)
        if len(asked) == 1:
            raise FedrecError(f"{out}: diverged")
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(scenario, out, data_dir)

    monkeypatch.setattr(tune, "child_scenario", fails_once)
    command = ["tune", "quickstart", *SETTINGS, "--space", "algorithm.reg=log:0.001:1", "--trials", "2"]
    command += ["--out", str(tmp_path / "t")]
    assert run(command) == 130
    assert run(command) == 0
    told = capfd.readouterr()
    assert "failed:" in told.err
    assert "Traceback" not in told.err
    assert "best of 2 trials" in told.out, "the failed one and the one that was taken up; what was broken off is none"
    assert len(asked) == 3
    assert asked[1] == asked[2] != asked[0]


def test_a_metric_that_no_run_has_ends_the_study_after_one_run_and_leaves_the_folder_free(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    command = ["tune", "quickstart", *SETTINGS, "--space", "algorithm.reg=log:0.001:1", "--trials", "3"]
    command += ["--out", str(tmp_path / "t")]
    assert run([*command, "--metric", "full:ndgc@10"]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "error: --metric full:ndgc@10: not measured. Did you mean 'full:ndcg@10'?"
    ]
    assert len(in_process) == 1
    assert run(command) == 0
