"""A run that asks for popularity again, from the scenario to a verified ledger: what is charged, and what is stated."""

import json
import math
from pathlib import Path

import pytest

import fedrec
from fedrec.algorithms import kernel_rank
from fedrec.audit.log.ledger import read_ledger

SMALL = {"data.users": 150, "data.items": 60, "data.interactions_per_user": 12, "evaluation.every": 0}
RANK = {"algorithm.name": "kernel-rank", "algorithm.kernel_rank": 16, "algorithm.rounds": 2, "algorithm.head_items": 20}
NAMES = ["popularity", "cooccurrence", "cooccurrence or popularity", *["weights or popularity"] * 2]


def test_the_ledger_states_both_sums_and_charges_the_same_for_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = fedrec.load_scenario(
        "quickstart", SMALL | RANK | {"privacy.epsilon": 40.0, "evaluation.baselines": False}
    )
    charges, kinds = [], []
    for name, least in (("pairs", 0.0), ("again", math.inf)):
        monkeypatch.setattr(kernel_rank, "LEAST_LIFT", least)
        run = fedrec.simulate(scenario, seed=3, out=tmp_path / name, progress=False)
        assert fedrec.verify(run, trust_run_key=True).holds
        entries = [entry.payload for entry in read_ledger(tmp_path / name / "release/privacy/ledger.jsonl")[0]]
        charges.append([entry for entry in entries if entry["type"] == "charge"])
        manifest = json.loads((tmp_path / name / "release/model/manifest.json").read_text())
        kinds.append("co-occurrence" in str(manifest))
        assert "cooccurrence or popularity" in (tmp_path / name / "release/privacy/statement.md").read_text()
    assert kinds == [True, False]
    assert charges[0] == charges[1]
    assert [query["name"] for charge in charges[0] for query in charge["queries"]] == NAMES
