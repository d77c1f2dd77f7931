"""Adaptive clips in a simulation: resumed to the same bits, left out of older texts, and refused in one line."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec.cli import run
from fedrec.federation.adaptive_clipping import PATH
from fedrec.privacy.config import PrivacyConfig
from fedrec.run.checkpoint import load_checkpoint
from tests.simulation.test_simulate import ALS, POPULARITY, Simulate, model, simulate

__all__ = ["simulate"]

ADAPTIVE = ("--set", "privacy.clipping.adaptive=true", "--set", "evaluation.every=0", "--quiet")
BARE = ("--set", "evaluation.baselines=false", "--set", "evaluation.order_free=false")


@contextlib.contextmanager
def killed_in_its_third_round(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulations inside are interrupted before the sums of round 2."""
    real = InProcessFederation.clipped_sums

    def dying(self, algorithm, shared, round_index, cohort):
        if round_index == 2:
            raise KeyboardInterrupt
        return real(self, algorithm, shared, round_index, cohort)

    with monkeypatch.context() as patch:
        patch.setattr(InProcessFederation, "clipped_sums", dying)
        yield


def test_a_killed_run_resumes_with_the_clip_that_it_had(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simulate(*ALS, *ADAPTIVE, *BARE, "--out", "whole", "--seed", 2) == 0
    with killed_in_its_third_round(monkeypatch):
        assert simulate(*ALS, *ADAPTIVE, *BARE, "--out", "r", "--seed", 2) == 130
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    whole, resumed = model(tmp_path / "whole"), model(tmp_path / "r")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    paths = [
        load_checkpoint(tmp_path / name / "private/checkpoint.safetensors").shared[PATH] for name in ("whole", "r")
    ]
    assert torch.equal(*paths)
    assert len(paths[0]) == 5
    assert len(paths[0].unique()) > 4
    assert run(["audit", "verify", str(tmp_path / "r"), "--trust-run-key"]) == 0
    assert "adaptive = true" in (tmp_path / "r/release/scenario.toml").read_text()


def test_the_baselines_of_a_run_keep_fixed_clips(simulate: Simulate) -> None:
    """They ask their sum once, so no clip of theirs could adapt."""
    assert simulate(*ALS, *ADAPTIVE, "--set", "algorithm.rounds=2", "--out", "r", "--seed", 2) == 0


def test_settings_of_fixed_clips_have_the_text_of_before() -> None:
    assert "clipping" not in PrivacyConfig().resolved()
    assert PrivacyConfig(clipping={"adaptive": True}).resolved()["clipping"]["quantile"] == 0.5


def test_what_cannot_adapt_is_refused_in_one_line(simulate: Simulate, tmp_path: Path, capsys: Any) -> None:
    assert simulate(*POPULARITY, *ADAPTIVE, "--out", "r") == 2
    assert "no sum is asked in several rounds" in capsys.readouterr().err
    assert simulate(*ALS, *ADAPTIVE, "--set", "privacy.epsilon=none", "--out", "r") == 2
    assert "needs an epsilon" in capsys.readouterr().err
    assert simulate(*ALS, "--set", "privacy.clipping.qantile=0.3", "--out", "r") == 2
    assert "Did you mean 'privacy.clipping.quantile'?" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_explanation_names_clips_that_adapt(simulate: Simulate, capsys: Any) -> None:
    assert simulate(*ALS, *ADAPTIVE, "--explain-privacy") == 0
    shown = capsys.readouterr().out
    assert "clip quantile" in shown
    assert "adapts" in shown


def test_history_has_each_clip_after_every_round(simulate: Simulate, tmp_path: Path) -> None:
    assert simulate(*ALS, *ADAPTIVE, *BARE, "--set", "privacy.evaluation_share=0.1", "--out", "r", "--seed", 2) == 0
    rows = list(csv.DictReader((tmp_path / "r/private/history.csv").read_text().splitlines()))
    path = load_checkpoint(tmp_path / "r/private/checkpoint.safetensors").shared[PATH]
    assert [float(row["clip gram"]) for row in rows] == pytest.approx([*path[1:, 0].tolist(), float(path[-1, 0])])
    assert float(rows[-1]["clip items"]) == pytest.approx(3.5 * float(path[-1, 1]))


@pytest.mark.slow
def test_virtual_nodes_end_with_the_bits_of_one_process(simulate: Simulate, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in each of Ray's processes: a product's bits may follow the number of threads
    try:
        for engine in ("in-process", "flower"):
            assert simulate(*ALS, *ADAPTIVE, *BARE, "--engine", engine, "--out", engine, "--seed", 2) == 0
    finally:
        torch.set_num_threads(threads)
    found, expected = model(tmp_path / "flower"), model(tmp_path / "in-process")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
