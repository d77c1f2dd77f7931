"""Trust models `local` and `distributed` over nodes with gates, policies and device ledgers."""

import json
from pathlib import Path

import pytest

from fedrec.cli import run as fedrec
from fedrec.federation import exchange
from tests.server.carded import Carded

POLICY = "[run]\nepsilon = 20.0\ndelta = 1e-3\nminimum_cohort = 1\nsmallest_sum = 1\nnoise_multiplier = 0.01\n"


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carded:
    made = Carded(tmp_path / "nodes", nodes=3, users=20)
    monkeypatch.setenv(*made.environment())
    return made


def test_a_node_of_a_local_run_adds_the_noise_itself(tmp_path: Path, carded: Carded) -> None:
    carded.run(tmp_path / "run", ("privacy.trust=local",))
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0
    answers = [packet for n in range(3) for packet in carded.answered[n] if packet.kind == exchange.SUMS]
    assert len(answers) == 6
    assert all(packet.facts[exchange.NOISED] is True for packet in answers)
    statement = json.loads((tmp_path / "run/release/privacy/statement.json").read_text())
    server = next(row for row in statement["adversaries"] if row["adversary"] == "server")
    assert server["epsilon"] is not None
    assert not any("before the noise" in line for line in statement["unprotected"])
