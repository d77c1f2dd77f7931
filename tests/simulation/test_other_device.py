"""Whole runs on a device that is not the CPU: no tensor stays behind, and what comes out is what the CPU makes."""

import json
from pathlib import Path
from typing import Any

import pytest
from fedrec_sim import simulation as simulated_run
from fedrec_sim.benchmarks import full_ranking, growth
from fedrec_sim.experiment import evaluate

from fedrec.cli import run
from fedrec.testing.other_device import NAME, needs_other_device, other_device

pytestmark = needs_other_device
SMALL = ["data.users=60", "data.items=100", "data.interactions_per_user=10", "seed=3"]


@pytest.fixture(autouse=True)
def there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands offer the devices that people have."""
    monkeypatch.setattr(simulated_run, "check_device", lambda device, asked: None)


def simulated(folder: Path, device: str, *settings: str) -> dict[str, Any]:
    options = [f"--set={setting}" for setting in (*SMALL, f"engine.device={device}", *settings)]
    assert run(["simulate", "--quiet", "--out", str(folder), *options]) == 0
    return json.loads((folder / "private" / "summary.json").read_text())


@pytest.mark.parametrize(
    "settings",
    [
        ["algorithm.rounds=3", "stopping.every=1", "privacy.evaluation_share=0.1", "evaluation.extended=true"],
        pytest.param(
            ["algorithm.name=tower-sgd", 'algorithm.tower={name="hybrid",dim=8}', "algorithm.local_steps=2"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["algorithm.name=fcf", "privacy.sampling=0.5", "engine.batch_users=7", "engine.nodes=3"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda settings: settings[0],
)
def test_a_run_gives_what_it_gives_on_the_cpu(settings: list[str], tmp_path: Path) -> None:
    expected = simulated(tmp_path / "cpu", "cpu", *settings)
    with other_device():
        found = simulated(tmp_path / NAME, NAME, *settings)
    assert found["metrics"]["full"] == pytest.approx(expected["metrics"]["full"], abs=0.02)
    assert found["privacy"]["epsilon"] == expected["privacy"]["epsilon"]


def test_a_run_is_evaluated_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = simulated(tmp_path / "run", "cpu", "algorithm.name=als", "algorithm.rounds=2")
    with other_device():
        found = evaluate.measure(tmp_path / "run", None, None, NAME)
    assert found["metrics"] == expected["metrics"]


@pytest.mark.parametrize("name", ["als", pytest.param("kernel-rank", marks=pytest.mark.slow)])
def test_generated_users_are_measured_there(name: str) -> None:
    job = {"dataset": "synthetic", "data_dir": None, "algorithm": name, "config": {}, "seed": 0, "users": 60}
    job |= {"items": 90, "interactions_per_user": 8, "batch_users": 25, "batch_events": 300}
    with other_device():
        found = growth.measure(job | {"device": NAME, "warm_up": 0, "repeat": 1, "memory_mb": 1})
    assert all(kind["users_per_second"] > 0 for kind in found["kinds"])


def test_full_ranking_is_measured_there() -> None:
    job = {"users": 60, "items": 90, "interactions_per_user": 8, "dim": 4, "held_out": 2, "seed": 0}
    with other_device():
        assert full_ranking.measure(job | {"device": NAME})["ratio"] > 0
