"""Correlated noise over nodes: an honest server gets each block in turn, and a lying one gets zeros."""

import numpy as np
import pytest
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.policy import Policy

from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.federation import exchange
from fedrec.privacy.banded.streams import BandedNoise
from tests.server.carded import Carded

APART = 2
CHANGES = (
    "algorithm.name=fcf",
    "algorithm.rounds=4",
    "algorithm.popularity_share=0.1",
    "privacy.noise=banded",
    f"privacy.separation={APART}",
    "privacy.epsilon=8.0",
)


class Charging(Carded):
    """Nodes that charge a device ledger of their own."""

    def node(self, n: int, **options: object):
        made = super().node(n, **options)
        ledger = DeviceLedger(self.folder / f"node{n}" / "ledger" / "device-ledger.jsonl", Policy())
        ledger.open()
        made._consent = Consent(Policy(), ledger)
        return made


@pytest.fixture
def carded(tmp_path, monkeypatch) -> Charging:
    made = Charging(tmp_path)
    monkeypatch.setenv(*made.environment())
    return made


def answers(carded: Charging) -> dict[int, bool]:
    """Return whether the first node gave anything but zeros, by round."""
    found = [packet for packet in carded.answered[0] if packet.kind == exchange.SUMS]
    return {packet.round: any(bool(total.any()) for total in packet.tensors.values()) for packet in found}


def test_each_block_is_asked_in_turn_and_the_ledger_verifies(carded, tmp_path, capsys) -> None:
    carded.run(tmp_path / "run", changes=CHANGES)
    assert carded.codes() == []
    assert all(answers(carded).values())
    payloads = [entry.payload for entry in read_ledger(tmp_path / "run" / "release" / "privacy" / "ledger.jsonl")[0]]
    assert payloads[0]["card"]["minimum_cohort"] == 30
    steps = [payload.get("step") for payload in payloads if payload["type"] == "charge"]
    assert steps[-4:] == [0, 1, 2, 3]
    asked = {packet.round: exchange.cohort_of(packet, 30) for packet in carded.questions()}
    last = max(asked)
    assert set(asked[last]).isdisjoint(asked[last - 1])
    assert np.array_equal(asked[last], asked[last - APART])
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0
    assert "everything that was checked holds" in capsys.readouterr().out


def test_a_server_that_asks_the_same_users_in_every_round_gets_zeros(carded, tmp_path, monkeypatch) -> None:
    honest = BandedNoise.cohort

    def lying(self: BandedNoise, round_index: int) -> np.ndarray:
        return honest(self, round_index if self.stream(round_index) is None else self.stream(round_index).first)

    monkeypatch.setattr(BandedNoise, "cohort", lying)
    carded.run(tmp_path / "run", changes=CHANGES)
    assert carded.codes() == [], "a refusal would be seen; zeros are not"
    found = answers(carded)
    last = sorted(found)[-4:]
    assert [found[number] for number in last] == [True, False, True, False]
