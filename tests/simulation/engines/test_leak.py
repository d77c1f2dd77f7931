"""`evaluation.leaky_negatives`: off unless asked for, a real leak when on, and said on every output of such a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_sim.engines.leak import STAMP, LeakyHistories, leaky
from fedrec_sim.experiment.compare import read_runs
from fedrec_sim.experiment.sweep import Cell, write
from fedrec_sim.report.table import results_table
from rich.console import Console

from fedrec.algorithms.local_training import Examples
from fedrec.cli import run
from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.splits import split as make_split
from fedrec.errors import InputError
from fedrec.run.scenario import load_scenario
from fedrec.towers.examples import hold_out
from tests.core.evaluation.test_protocol import Memoriser, above_chance, clean

SMALL = ["data.users=150", "data.items=220", "data.interactions_per_user=12", "algorithm.name=pfedrec"]
SETTINGS = [*SMALL, "algorithm.dim=4", "algorithm.rounds=2", "algorithm.events=8", "privacy.epsilon=8"]


@pytest.fixture(scope="module")
def split() -> Split:
    return make_split(load(DataConfig(name="quickstart"), None, 11), "leave-one-out", "test", 11)


def test_the_memoriser_finds_the_leak_and_only_with_the_switch(split):
    assert max(above_chance(Memoriser(clean), split).values()) < 3
    assert min(above_chance(Memoriser(clean), leaky(split)).values()) > 20


def test_negatives_avoid_the_held_out_item_through_every_way_of_making_a_batch(split):
    users = np.arange(40)
    targets = torch.from_numpy(split.targets[users])[:, None]
    batch = leaky(split).train.batch(users, 11)
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))
    for made, wanted in (
        (batch, targets),
        (batch.take(order), targets[order]),
        (batch.slice(5, 30), targets[5:30]),
        (batch.without_newest(torch.ones_like(batch.lengths)), targets),
        (batch.unordered().without_repeats(), targets),
        (leaky(split).train.select(users[::-1]).batch(np.arange(40), 11), targets.flip(0)),
    ):
        drawn = made.negatives(400, stream=1)
        assert not (drawn == wanted).any()
        assert not any(set(drawn[row].tolist()) & set(made.slice(row, row + 1).items.tolist()) for row in range(5))
    clean_batch = split.train.batch(users, 11)
    assert clean_batch.avoid is None
    assert (clean_batch.negatives(4000, stream=1) == targets).any(dim=1).float().mean() > 0.9


def test_the_examples_of_local_training_and_of_towers_leak_only_with_the_switch(split):
    users = np.arange(40)
    targets = torch.from_numpy(split.targets[users])[:, None]

    def found(batch):
        examples = Examples.draw(batch, 20, 20, 3)
        local = torch.where(examples.examples > examples.events, examples.items, -1)  # drawn as a negative
        tower = hold_out(batch, 20, 20, "random", 3)[1].items[:, :, 1:].flatten(1)
        return [(drawn == targets).any(dim=1).float().mean() for drawn in (local, tower)]

    assert max(found(leaky(split).train.batch(users, 11))) == 0
    assert min(found(split.train.batch(users, 11))) > 0.3


def test_nothing_else_changes(split):
    made = leaky(split)
    assert replace(made, train=split.train, device=split.device, leaky=False) == split
    both = {name: value for name, value in vars(made.train).items() if name != "held_out"}
    assert all(value is getattr(split.train, name) for name, value in both.items())
    assert type(split.train) is Histories
    assert type(made.train) is LeakyHistories


def test_a_split_that_holds_out_several_items_is_refused(split):
    with pytest.raises(InputError, match="leaky_negatives"):
        leaky(replace(split, many=split.seen))


@pytest.mark.parametrize("on", [True, False])
def test_every_output_says_so(tmp_path: Path, on: bool):
    settings = [*SETTINGS, f"evaluation.leaky_negatives={str(on).lower()}"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "run"
    assert run(["simulate", *arguments, "--seed", "1", "--out", str(out), "--quiet"]) == 0
    summary = json.loads((out / "private" / "summary.json").read_text())
    console = Console(width=200)
    with console.capture() as captured:
        console.print(results_table(summary))
    told = [Cell({"privacy.epsilon": 8}, {1: load_scenario(str(out / "release" / "scenario.toml"))}, {1: summary})]
    write(told, tmp_path, "sweep")
    texts = {
        "sweep": (tmp_path / "sweep.md").read_text(),
        "sweep as data": (tmp_path / "sweep.csv").read_text(),
        "comparison": read_runs([out])[0].label,
        "summary": json.dumps(summary["metrics"]["rule"]),
        "evaluation": json.dumps(summary["evaluation"]),
        "table": captured.get(),
        "statement": (out / "release" / "privacy" / "statement.md").read_text(),
        "statement as data": (out / "release" / "privacy" / "statement.json").read_text(),
        "curve": (out / "private" / "plots" / "training.svg").read_text(),
        "bars": (out / "private" / "plots" / "metrics.svg").read_text(),
    }
    assert {name for name, text in texts.items() if STAMP in text} == (set(texts) if on else set())
