"""Runs of trust models `local` and `distributed` over real processes with TLS and node keys."""

import json
from pathlib import Path

import pytest
from fedrec_server.process.local import federation
from fedrec_server.process.run_client import RunClient, RunFailed

from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.transport.state import State

NODES = 3
SMALL = [
    "data.users=150", "data.items=60", "data.interactions_per_user=12", f"engine.nodes={NODES}",
    "algorithm.name=als", "algorithm.dim=4", "algorithm.rounds=2",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory):
    with federation(NODES, tmp_path_factory.mktemp("federation"), None, stock=False, say=lambda _: None) as running:
        yield running


def config(out: Path, *changes: str) -> dict:
    return {
        "scenario": "quickstart",
        "set": "\n".join([*SMALL, *changes]),
        "out": str(out),
        "resume": False,
        "data-dir": "",
    }


@pytest.mark.parametrize("trust", ["local", "distributed"])
def test_the_server_gets_noisy_sums_alone(state: State, tmp_path: Path, trust: str) -> None:
    out = tmp_path / "run"
    assert RunClient(state, config(out, f"privacy.trust={trust}"), lambda _: None).follow() == str(out)
    assert fedrec(["audit", "verify", str(out), "--key", str(out / "release/privacy/ledger.pub")]) == 0
    begin = read_ledger(out / "release/privacy/ledger.jsonl")[0][0].payload
    assert begin["trust"] == trust
    assert ("roster" in begin["card"]) == (trust == "distributed")
    statement = json.loads((out / "release/privacy/statement.json").read_text())
    server = next(row for row in statement["adversaries"] if row["adversary"] == "server")
    assert server["epsilon"] is not None


def test_a_seed_is_refused(state: State, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="leave the seed out"):
        RunClient(state, config(tmp_path / "run", "privacy.trust=distributed", "seed=5"), lambda _: None).follow()
