"""`fedrec simulate` with private looks: what is shown and written, what is refused, and how a run continues."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec.cli import run
from fedrec.run.scenario import load_scenario
from tests.simulation.test_simulate import SMALL, model, simulate, summary

__all__ = ["simulate"]

ALS = [*SMALL, "--set", "algorithm.name=als", "--set", "algorithm.dim=4", "--set", "algorithm.rounds=8"]
ALS += ["--set", "evaluation.baselines=false"]
LOOKS = ["--set", "privacy.evaluation_share=0.3", "--set", "stopping.every=2"]
STOPS = [*ALS, *LOOKS, "--set", "stopping.patience=1", "--set", "stopping.min_improvement=50"]
"""Nothing improves by 50 standard deviations: the second of four looks stops the run."""


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "private" / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_that_stops_shows_it_and_pays_in_full(simulate: Any, tmp_path: Path, capsys: Any) -> None:
    assert simulate(*STOPS, "--out", "r", "--seed", 1) == 0
    captured = capsys.readouterr()
    shown = " ".join(captured.err.split())
    folder = tmp_path / "r"
    told = summary(folder)
    private = told["evaluation"]["private"]
    assert [(look["round"], look["after"]) for look in private["looks"]] == [(3, 3), (6, 5)]
    assert (private["stopped"]["round"], private["stopped"]["after"]) == (6, 5)
    assert private["released_after"] in (3, 5)
    assert private["ndcg@10"]["value"] == max(look["ndcg@10"] for look in private["looks"])
    assert told["finished"] is True
    assert (told["cost"]["rounds"], told["privacy"]["rounds"], told["privacy"]["rounds_planned"]) == (7, 13, 13)
    assert told["privacy"]["epsilon"] == pytest.approx(4, abs=0.01)
    history = rows(folder)
    assert len(history) == 7
    look = private["looks"][1]
    assert f"private ndcg@10 {look['ndcg@10']:.3f} +- {look['std']:.3f}" in shown
    assert "Stopped after round 7 of 13: private ndcg@10" in shown
    cells = [history[6][f"private {name}"] for name in ("hr@10", "ndcg@10", "std")]
    assert [float(cell) for cell in cells] == [look["hr@10"], look["ndcg@10"], look["std"]]
    assert history[5]["private ndcg@10"] == ""
    for name in ("looks", "epsilon"):
        assert ElementTree.parse(folder / "private" / "plots" / f"{name}.svg").getroot().tag.endswith("svg")
    stated = json.loads((folder / "release" / "privacy" / "statement.json").read_text())
    assert stated["stopped"]["unrun"] == [7, 8, 9, 10, 11, 12]
    assert run(["audit", "verify", str(folder), "--key", str(folder / "release" / "privacy" / "ledger.pub")]) == 0
    assert "stopped early" in " ".join(capsys.readouterr().out.split())


def test_a_stopped_run_that_was_killed_resumes_to_the_same_bits(
    simulate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate(*STOPS, "--out", "whole", "--seed", 2, "--quiet") == 0
    real = InProcessFederation.clipped_sums

    def dying(self, algorithm, shared, round_index, cohort):
        if round_index == 4:
            raise KeyboardInterrupt
        return real(self, algorithm, shared, round_index, cohort)

    with monkeypatch.context() as patch:
        patch.setattr(InProcessFederation, "clipped_sums", dying)
        assert simulate(*STOPS, "--out", "r", "--seed", 2, "--quiet") == 130
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    whole, resumed = model(tmp_path / "whole"), model(tmp_path / "r")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    first, second = (summary(tmp_path / name)["evaluation"]["private"] for name in ("whole", "r"))
    assert first == second
    before = (tmp_path / "r" / "release" / "privacy" / "ledger.jsonl").read_bytes()
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    charges = [line for line in before.splitlines() if b'"charge"' in line]
    after = (tmp_path / "r" / "release" / "privacy" / "ledger.jsonl").read_bytes()
    assert [line for line in after.splitlines() if b'"charge"' in line] == charges


def test_kernel_rank_looks_when_its_weights_are_trained(simulate: Any, tmp_path: Path) -> None:
    small = ["--set", "algorithm.kernel_rank=4", "--set", "algorithm.head_items=20", "--set", "algorithm.rounds=4"]
    quick = ["--set", "evaluation.baselines=false", "--set", "evaluation.every=0", "--set", "stopping.patience=9"]
    assert simulate(*SMALL, *small, *quick, *LOOKS, "--out", "r", "--seed", 1, "--quiet") == 0
    told = summary(tmp_path / "r")
    private = told["evaluation"]["private"]
    releases = 1 + ("cooccurrence" in told["privacy"]["budget_shares"])
    assert [look["after"] for look in private["looks"]] == [releases + 2, releases + 4]
    assert private["stopped"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stopping.every=2"], "set privacy.evaluation_share"),
        (["stopping.metric=full ndcg@10"], "never stops on true metrics"),
        (["stopping.patients=2"], "Did you mean 'stopping.patience'"),
        (["privacy.evaluation_share=0.1", "stopping.every=100"], "choose a smaller number"),
    ],
)
def test_what_cannot_stop_a_run_is_refused(changes: list[str], message: str, simulate: Any, capsys: Any) -> None:
    settings = [part for change in changes for part in ("--set", change)]
    assert simulate(*ALS, *settings, "--out", "r") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("r").exists()


def test_the_table_stands_in_the_resolved_scenario_where_it_has_an_effect() -> None:
    assert "stopping" not in load_scenario("quickstart").resolved()
    told = load_scenario("quickstart", ["privacy.evaluation_share=0.1", "stopping.every=5"]).resolved()["stopping"]
    assert told == {"every": 5, "patience": 3, "metric": "ndcg@10", "min_improvement": 1.0, "release": "best"}
