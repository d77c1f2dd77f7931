"""Sweeps: the grid that settings span, what each algorithm keeps of it, and runs that fail, stop and go on."""

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from fedrec_sim.experiment import child_run, sweep
from fedrec_sim.experiment.sweep import grid, parse_axis, run_name

from fedrec.cli import run
from fedrec.errors import FedrecError, InputError

SMALL = ("data.users=60", "data.items=80", "data.interactions_per_user=10", "evaluation.every=0")
POPULARITY = [part for change in (*SMALL, "algorithm.name=popularity") for part in ("--set", change)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("privacy.epsilon=0.5,1,8", [0.5, 1, 8]),
        ("privacy.epsilon=1,none", [1, "none"]),
        ("algorithm.name=als,kernel-rank", ["als", "kernel-rank"]),
        ("algorithm.shares=[0.5,0.5],[0.2,0.8]", [[0.5, 0.5], [0.2, 0.8]]),
        ("data.ordered=true,false", [True, False]),
    ],
)
def test_values_of_an_axis(text: str, values: list[Any]) -> None:
    assert parse_axis(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sweep", "privacy.epsilon"], "must be key=value,value"),
        (["--sweep", "seed=1,2"], "--seeds"),
        (["--sweep", "privacy.epsilom=1,2"], "Did you mean 'privacy.epsilon'?"),
        (["--sweep", "privacy.epsilon=1,-2"], "privacy.epsilon"),
        (["--sweep", "algorithm.name=asl,als"], "Did you mean 'als'?"),
        (["--sweep", "algorithm.name=als,popularity", "--sweep", "algorithm.dmi=4"], "none of als, popularity"),
        (["--seeds", "0,x"], "whole numbers"),
        (["--seeds", "0", "--seed", "1"], "--seeds with --sweep"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    arguments: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    assert run(["simulate", *arguments, "--out", str(tmp_path / "s")]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert not in_process
    assert not (tmp_path / "s").exists()


def test_an_algorithm_keeps_no_setting_that_was_meant_for_another(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nname = "quickstart"\n[algorithm]\nname = "als"\nrounds = 3\ndim = 7\n')
    axes = {"algorithm.name": ["als", "popularity", "kernel-rank"], "algorithm.reg": [0.1, 0.2]}
    cells = grid(str(file), ["algorithm.alpha0=0.5"], {}, axes, [0])
    found = [next(iter(cell.scenarios.values())).algorithm for cell in cells]
    assert found == [
        {"name": "als", "rounds": 3, "dim": 7, "alpha0": 0.5, "reg": 0.1},
        {"name": "als", "rounds": 3, "dim": 7, "alpha0": 0.5, "reg": 0.2},
        {"name": "popularity"},
        {"name": "kernel-rank"},
    ]
    assert [cell.label for cell in cells][2:] == ["algorithm.name popularity", "algorithm.name kernel-rank"]


def test_names_of_folders_differ_where_settings_do() -> None:
    settings = [{"privacy.epsilon": 1.0}, {"privacy.epsilon": 0.5}, {"a.x": "p/q"}, {"a.x": "p-q"}, {"a.x": "p q"}]
    settings += [{"a.x": 1, "b.x": 2}, {"a.x": 2, "b.x": 1}, {"a.x": [0.1] * 80}, {"a.x": [0.1] * 79 + [0.2]}]
    settings += [{"a.x": 0.12345678}, {"a.x": 0.12345679}]
    names = [run_name(one, 0) for one in settings]
    assert len(set(names)) == len(names)
    assert names[0] == "epsilon-1_seed-0"
    assert all("/" not in name and len(name) < 140 for name in names)


def test_a_grid_is_run_read_again_and_widened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    common = ["simulate", *POPULARITY, "--out", str(tmp_path / "s"), "--seeds", "0,1"]
    assert run([*common, "--sweep", "privacy.epsilon=2,none", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert len(in_process) == 4
    assert [row["privacy.epsilon"] for row in rows] == [2, "none"]
    for row in rows:
        folders = [tmp_path / "s" / run_name({"privacy.epsilon": row["privacy.epsilon"]}, seed) for seed in (0, 1)]
        values = [
            json.loads((f / "private" / "summary.json").read_text())["metrics"]["full"]["ndcg@10"] for f in folders
        ]
        assert row["full:ndcg@10"] == pytest.approx(statistics.mean(values))
        assert row["full:ndcg@10 sd"] == pytest.approx(statistics.stdev(values))
    assert rows[0]["epsilon_spent"] == pytest.approx(2, abs=0.01)
    assert rows[1]["epsilon_spent"] is None
    assert rows[0]["dp-popularity full:ndcg@10"] != rows[0]["full:ndcg@10"]  # noise of its own
    assert run([*common, "--sweep", "privacy.epsilon=2,none,8"]) == 0
    assert len(in_process) == 6
    shown = capfd.readouterr().out
    assert shown.count("2 of 2") == 3
    assert "tune on private data" in shown
    with (tmp_path / "s" / "sweep.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["privacy.epsilon"] for row in written] == ["2", "none", "8"]
    page = (tmp_path / "s" / "sweep.md").read_text()
    assert f"{rows[0]['full:ndcg@10']:.4f} ± {rows[0]['full:ndcg@10 sd']:.4f}" in page
    picture = (tmp_path / "s" / "sweep.svg").read_text()
    assert "DP popularity" in picture
    assert "no privacy" in picture


def test_an_axis_is_given_once(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    twice = ["--sweep", "algorithm.name=als", "--sweep", "algorithm.name=fcf"]
    assert run(["simulate", *POPULARITY[:-2], "--out", str(tmp_path / "s"), *twice]) == 2
    assert "--sweep algorithm.name: is given twice" in capfd.readouterr().err


def test_each_setting_stands_beside_the_floor_of_its_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: list[list[str]]
) -> None:
    drawn: list[dict] = []
    monkeypatch.setattr("fedrec_sim.report.plots.quality_against_epsilon", lambda series, *_: drawn.append(series))
    common = ["simulate", *POPULARITY, "--out", str(tmp_path / "s"), "--seeds", "0", "--sweep", "privacy.epsilon=2,8"]
    assert run(common) == 0
    assert run([*common, "--sweep", "data.users=60,80"]) == 0
    one, several = drawn
    assert [len(points) for points in one.values()] == [2, 2]
    assert set(one) == {"popularity", "DP popularity"}
    assert set(several) == {"users 60", "users 80", "DP popularity, users 60", "DP popularity, users 80"}
    assert several["DP popularity, users 60"] != several["DP popularity, users 80"]


def test_a_failed_run_is_told_and_stops_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], in_process: list[list[str]]
) -> None:
    blocked = tmp_path / "s" / run_name({"privacy.epsilon": 1}, 0)
    blocked.mkdir(parents=True)
    (blocked / "note").write_text("mine")
    command = ["simulate", *POPULARITY, "--out", str(tmp_path / "s"), "--seeds", "0", "--sweep", "privacy.epsilon=1,4"]
    assert run(command) == 2
    told = capfd.readouterr()
    assert "1 of 2 runs failed" in told.err
    assert f"failed: {blocked}" in told.err
    assert [row["privacy.epsilon"] for row in json.loads((tmp_path / "s" / "sweep.json").read_text())] == [4]
    (blocked / "note").unlink()
    assert run(command) == 0
    assert len(in_process) == 3


def test_a_begun_run_is_resumed_and_another_is_not_taken_for_it(
    tmp_path: Path, in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["simulate", *POPULARITY, "--out", str(tmp_path / "s"), "--seeds", "0", "--quiet"]
    assert run(command) == 0
    (tmp_path / "s" / "seed-0" / "private" / "summary.json").unlink()
    assert run(command) == 0
    assert "--resume" in in_process[1]
    assert run([*command, "--set", "data.users=70"]) == 2
    assert len(in_process) == 2


def test_a_run_has_a_process_of_its_own_and_its_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FedrecError, match="no such scenario file") as caught:
        child_run.child_run([str(tmp_path / "none.toml")], tmp_path / "r", None)
    assert str(caught.value).startswith(f"{tmp_path / 'r'}: ")
    assert "\n" not in str(caught.value)


def test_a_run_that_was_killed_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = "import sys, os; print('some warning', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    real = child_run.subprocess.Popen
    monkeypatch.setattr(child_run.subprocess, "Popen", lambda command, **more: real([command[0], "-c", dies], **more))
    with pytest.raises(FedrecError, match="ended by signal 9, perhaps for its memory"):
        child_run.child_run(["quickstart"], tmp_path / "r", None)


def test_one_seed_has_no_deviation() -> None:
    assert sweep.mean_and_deviation(0.25, math.nan) == "0.2500"
    assert sweep.mean_and_deviation(0.25, 0.01) == "0.2500 ± 0.0100"


def test_an_axis_without_values() -> None:
    with pytest.raises(InputError, match="--sweep"):
        parse_axis("privacy.epsilon=")
