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
    "algorithm.name=als", "algorithm.dim=4", "algorithm.rounds=2", "algorithm.popularity_share=0.0",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("federation")
    with federation(NODES, folder, None, stock=False, say=lambda _: None, helper=True) as running:
        yield running


def config(out: Path, *changes: str) -> dict:
    return {
        "scenario": "quickstart",
        "set": "\n".join([*SMALL, *changes]),
        "out": str(out),
        "resume": False,
        "data-dir": "",
    }


@pytest.mark.parametrize(("trust", "aggregator"), [("local", ""), ("distributed", "peers"), ("distributed", "")])
def test_the_server_gets_noisy_sums_alone(state: State, tmp_path: Path, trust: str, aggregator: str) -> None:
    """The server has a helper, which keeps the masks unless the scenario leaves them to the nodes."""
    out = tmp_path / "run"
    changes = [f"privacy.trust={trust}", *([f"privacy.aggregator={aggregator}"] if aggregator else [])]
    assert RunClient(state, config(out, *changes), lambda _: None).follow() == str(out)
    assert fedrec(["audit", "verify", str(out), "--key", str(out / "release/privacy/ledger.pub")]) == 0
    begin = read_ledger(out / "release/privacy/ledger.jsonl")[0][0].payload
    assert begin["trust"] == trust
    assert ("roster" in begin["card"]) == (trust == "distributed")
    assert ("helper" in begin["card"]) == (trust == "distributed" and not aggregator)
    statement = json.loads((out / "release/privacy/statement.json").read_text())
    server = next(row for row in statement["adversaries"] if row["adversary"] == "server")
    assert server["epsilon"] is not None


def test_a_seed_is_refused(state: State, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="leave the seed out"):
        RunClient(state, config(tmp_path / "run", "privacy.trust=distributed", "seed=5"), lambda _: None).follow()
