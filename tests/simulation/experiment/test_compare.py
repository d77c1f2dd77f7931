"""`fedrec compare`: what it shows, what it tests, and what it refuses to put side by side."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedrec.cli import run
from fedrec.evaluation.kept import load_ranks

SMALL = ("data.users=60", "data.items=80", "data.interactions_per_user=10", "evaluation.every=0")
SETTINGS = [part for change in (*SMALL, "evaluation.baselines=false") for part in ("--set", change)]


def simulate(out: Path, *changes: str, seed: int = 1) -> Path:
    settings = [part for change in changes for part in ("--set", change)]
    assert run(["simulate", *SETTINGS, *settings, "--seed", str(seed), "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    keep = "evaluation.keep_ranks=true"
    return {
        "popular": simulate(folder / "popular", "algorithm.name=popularity", "privacy.epsilon=none", keep),
        "noisy": simulate(folder / "noisy", "algorithm.name=popularity", "privacy.epsilon=0.01", keep),
        "bare": simulate(folder / "bare", "algorithm.name=content"),
        "other": simulate(folder / "other", "algorithm.name=popularity", seed=2),
        "validation": simulate(folder / "validation", "algorithm.name=popularity", "evaluation.on=validation"),
    }


def test_rows_hold_what_the_runs_came_to(runs: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(runs["popular"]), str(runs["noisy"]), str(runs["bare"]), "--json"]) == 0
    told = capfd.readouterr()
    rows: list[dict[str, Any]] = json.loads(told.out)
    assert [row["run"] for row in rows] == ["popular", "noisy", "bare"]
    for row in rows:
        summary = json.loads((runs[row["run"]] / "private" / "summary.json").read_text())
        assert row["full:ndcg@10"] == summary["metrics"]["full"]["ndcg@10"]
        assert row["epsilon"] == summary["privacy"]["epsilon"]
    assert rows[0]["significance"] is None
    assert rows[2]["significance"] is None
    assert "no ranks kept: bare." in told.err
    found = rows[1]["significance"]
    assert found["difference"] == pytest.approx(rows[1]["full:ndcg@10"] - rows[0]["full:ndcg@10"])
    assert found["low"] < found["difference"] < found["high"] < 0
    assert found["p_bootstrap"] < 0.05
    assert found["users"] == 60


def test_what_is_no_mean_over_users_is_shown_and_not_tested(
    runs: dict[str, Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pair = [str(runs["popular"]), str(runs["noisy"])]
    assert run(["compare", *pair, "--metric", "full:coverage@10", "--json"]) == 0
    told = capfd.readouterr()
    assert all(row["significance"] is None and 0 < row["full:coverage@10"] <= 1 for row in json.loads(told.out))
    assert "full:coverage@10 is no mean over users" in told.err
    assert run(["compare", *pair, "--plot", str(tmp_path / "none" / "a.svg")]) == 2
    assert "there is no folder" in capfd.readouterr().err
    assert run(["compare", *pair, "--metric", "more:map@10"]) == 2
    assert "evaluation.extended=true" in capfd.readouterr().err
    assert run(["compare", *pair, "--plot", str(tmp_path / "a.png")]) == 2
    assert "call it a.svg" in capfd.readouterr().err


def test_the_ranks_that_are_tested_are_the_ones_behind_the_metrics(runs: dict[str, Path]) -> None:
    ranks = load_ranks(runs["noisy"] / "private" / "evaluation" / "ranks.npz").full
    told = json.loads((runs["noisy"] / "private" / "summary.json").read_text())["metrics"]["full"]["hr@10"]
    assert float((ranks < 10).double().mean()) == pytest.approx(told)
    assert not (runs["bare"] / "private" / "evaluation").exists()


def test_what_a_person_reads(runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = [str(runs["popular"]), str(runs["noisy"])]
    assert run(["compare", *both, "--plot", str(tmp_path / "p.svg")]) == 0
    shown = capfd.readouterr().out
    assert "not corrected for the number of comparisons" in " ".join(shown.split())
    picture = (tmp_path / "p.svg").read_text()
    assert "noisy" in picture
    assert run(["compare", *both, "--markdown", "--metric", "full:hr@10"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("| run | algorithm | epsilon | HR@10 full | NDCG@10 full |")
    assert lines[2].startswith("| popular | popularity | none |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[5] == "full:hr@10, less that of popular:"
    assert lines[9].startswith("| noisy | -")


def test_no_figure_is_cut_on_a_narrow_screen(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    long = shutil.copytree(runs["noisy"], tmp_path / f"a-run-with-a-name-{'that-goes-on' * 4}")
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["compare", str(runs["popular"]), str(long), "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert run(["compare", str(runs["popular"]), str(long)]) == 0
    shown = capfd.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for row in rows:
        assert f"{row['full:ndcg@10']:.4f}" in shown
    assert f"{rows[1]['significance']['low']:+.4f}" in shown


@pytest.mark.parametrize(
    ("names", "more", "says"),
    [
        (("popular", "other"), (), "compare runs on the same data"),
        (("popular", "validation"), (), "evaluation.on is 'validation'"),
        (("popular", "popular"), (), "given twice"),
        (("popular", "noisy"), ("--metric", "full:ndgc@10"), "Did you mean 'full:ndcg@10'?"),
    ],
)
def test_runs_on_different_data_are_refused(
    runs: dict[str, Path],
    names: tuple[str, ...],
    more: tuple[str, ...],
    says: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(["compare", *(str(runs[name]) for name in names), *more]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert says in errors[0]


def test_an_unfinished_run_is_refused(runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for part in ("release", "private"):
        (tmp_path / part).mkdir()
    (tmp_path / "release" / "scenario.toml").write_text((runs["bare"] / "release" / "scenario.toml").read_text())
    assert run(["compare", str(runs["bare"]), str(tmp_path)]) == 2
    assert "--resume" in capfd.readouterr().err
    (tmp_path / "private" / "summary.json").write_text("{}")
    assert run(["compare", str(tmp_path), str(runs["bare"])]) == 2
    assert "not a summary" in capfd.readouterr().err
