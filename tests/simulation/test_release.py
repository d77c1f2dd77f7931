"""What leaves a run: `release/` alone, and nothing in it that no epsilon covers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.simulation.test_simulate import POPULARITY, simulate

__all__ = ["simulate"]


def test_only_the_owner_may_enter_the_run_and_its_private_folder(simulate: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o755)
    assert simulate(*POPULARITY, "--set", "evaluation.keep_ranks=true", "--out", "r", "--seed", 1, "--quiet") == 0
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700
    found = [tmp_path / "r" / "private", *(tmp_path / "r" / "private").rglob("*")]
    assert {path.name for path in found} >= {"private", "summary.json", "history.csv", "metrics.svg", "ranks.npz"}
    assert [path for path in found if path.is_file() and path.stat().st_mode & 0o077] == []
    assert found[0].stat().st_mode & 0o777 == 0o700


def test_true_figures_are_called_true_before_epsilon_is_named(simulate: Callable[..., int], capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--seed", 1) == 0
    shown = " ".join(capsys.readouterr().out.split())
    true, promise = shown.index("TRUE figures, which no epsilon covers"), shown.index("Privacy: ")
    assert true < promise
    assert promise < shown.index(
        "r/release: model, ledger, privacy statement, scenario. Only this folder may be handed on."
    )
    assert "Kept in r/private: true metrics, counts, times, plots, checkpoint. No epsilon covers them." in shown
