"""Secret coins with clips that adapt: a round's zeros neither move a clip nor show, and the ledger verifies."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run
from fedrec.federation.adaptive_clipping import PATH, QUERY
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.privacy.config import PrivacyConfig
from fedrec.run.checkpoint import load_checkpoint
from tests.server.deployed import data, plan_of, spec_of
from tests.simulation.test_adaptive_clipping import ADAPTIVE, BARE, killed_in_its_third_round
from tests.simulation.test_simulate import ALS, Simulate, model, simulate

__all__ = ["simulate"]

HIDDEN = ("--set", "privacy.participation=hidden", "--set", "privacy.sampling=0.5")


@pytest.mark.parametrize("trust", [pytest.param("distributed", marks=pytest.mark.slow), "local"])
def test_a_killed_run_resumes_to_the_same_bits_and_verifies(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str
) -> None:
    setting = (*ALS, *ADAPTIVE, *BARE, *HIDDEN, "--set", f"privacy.trust={trust}", "--seed", 2)
    assert simulate(*setting, "--out", "whole") == 0
    with killed_in_its_third_round(monkeypatch):
        assert simulate(*setting, "--out", "r") == 130
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    whole, resumed = model(tmp_path / "whole"), model(tmp_path / "r")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for name in ("whole", "r"):
        assert run(["audit", "verify", str(tmp_path / name), "--trust-run-key"]) == 0
        assert len(load_checkpoint(tmp_path / name / "private/checkpoint.safetensors").shared[PATH].unique()) > 3
    ledger = read_ledger(tmp_path / "whole/release/privacy/ledger.jsonl")[0]
    charges = [entry.payload for entry in ledger if entry.payload["type"] == "charge"]
    names = [[query["name"] for query in charge["queries"]] for charge in charges]
    assert names == [["popularity"], *[["gram", "items", QUERY]] * 3]
    assert all("secret coin" in event["mechanism"] for charge in charges for event in charge["events"])
    rows = list(csv.DictReader((tmp_path / "whole/private/history.csv").read_text().splitlines()))
    assert len({row["clip gram"] for row in rows}) > 1
    statement = json.loads((tmp_path / "whole/release/privacy/statement.json").read_text())
    against = {row["adversary"]: float(row["epsilon"]) for row in statement["adversaries"]}
    assert against["server"] < against["knows_the_cohort"], "the clip's sum is behind the same coin"


def test_zeros_of_secret_coins_do_not_move_the_point_where_a_clip_stays() -> None:
    """Over many coins the measured part of users is that of all users: a user whose coin falls to zero counts 0.

    A bit of "within the clip" from users who add zeros would draw every clip down.
    """
    clipping = ClippingConfig(adaptive=True, quantile=0.3)
    asked = {"epsilon": 8.0, "delta": 1e-4, "clipping": clipping, "trust": "local", "sampling": 0.5}
    source = data()[1].train
    found = {}
    for participation in ("hidden", "everybody"):
        hidden = participation == "hidden"
        config = PrivacyConfig(**asked | ({"participation": "hidden"} if hidden else {"sampling": 1.0}))
        algorithm = spec_of("als", config, len(source)).build(data()[0].catalogue)
        plan = plan_of(algorithm, config, len(source))
        federation, shared = InProcessFederation(source, plan, seed=3), algorithm.initial()
        coins, parts = np.random.default_rng(1), []
        for _ in range(60 if hidden else 1):
            cohort = np.flatnonzero(coins.random(len(source)) < 0.5) if hidden else np.arange(len(source))
            total = federation.clipped_sums(algorithm, shared, 1, cohort)[QUERY]
            known = plan.discrete.encoding(1, QUERY)
            value = known.decoded(known.read(total.numpy().reshape(-1)))
            query = {query.name: query for query in algorithm.queries(1)}[QUERY]
            parts.append(value * query.clip_norm / algorithm.facts.expected_cohort)
        found[participation] = np.array(parts)
    mean, error = found["hidden"].mean(0), found["hidden"].std(0) / np.sqrt(60)
    assert np.all(np.abs(mean - found["everybody"][0]) < 5 * error + 1e-3)
    assert np.all(5 * error < 0.1)
