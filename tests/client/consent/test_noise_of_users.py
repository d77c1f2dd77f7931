"""Device ledgers of runs whose users add the noise: charged once before a message leaves, at the price of the card."""

from dataclasses import replace
from pathlib import Path

import pytest
from fedrec_client.consent.policy import Policy
from fedrec_server.flower.messenger import TooFewNodes

from fedrec import wire
from fedrec.audit.log.ledger import read_ledger
from fedrec.run.masked import CONFIRM
from tests.client.consent.test_on_a_node import FEW, Own

CHANGES = ("engine.nodes=3", "privacy.delta=1e-5")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    made = Own(tmp_path, nodes=3, users=60)
    monkeypatch.setenv(*made.environment())
    return made


@pytest.mark.parametrize("trust", ["local", "distributed"])
def test_a_user_pays_what_the_run_promises(own: Own, tmp_path: Path, trust: str) -> None:
    own.deploy(tmp_path / "run", *CHANGES, f"privacy.trust={trust}")
    (charge,) = own.charges()
    assert (charge["paid"], charge["gave"], charge["rows"]) == ("all", "all", 60)
    records = [entry.payload for entry in read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]]
    promised = next(float(record["epsilon"]["rdp"]) for record in records if record["type"] == "charge")
    assert charge["epsilon"] == pytest.approx(promised, rel=0.02)


@pytest.mark.parametrize("trust", ["local", "distributed"])
def test_a_policy_without_the_trust_model_refuses(own: Own, tmp_path: Path, trust: str) -> None:
    own.policy = Policy(run=replace(FEW.run, trust=("central",)), period=FEW.period)
    with pytest.raises(TooFewNodes, match="does not accept the run's terms"):
        own.deploy(tmp_path / "run", *CHANGES, f"privacy.trust={trust}")
    assert not own.charges()


def test_a_void_round_is_charged_on_the_device_too(own: Own, tmp_path: Path) -> None:
    lost: list[str] = []

    def once(message, record):
        if wire.from_record(message.content).kind != CONFIRM or lost:
            return record
        lost.append(CONFIRM)
        return None

    own.deploy(tmp_path / "run", *CHANGES, "privacy.trust=distributed", "privacy.epsilon=2.0", twist=once)
    entries = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]
    rounds = [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"]
    assert rounds == [0], "a repetition would pass the run's epsilon, so the run ends"
    assert len(own.charges()) == 1
