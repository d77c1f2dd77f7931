"""Server and helper each add the whole noise to their half of a secure sum: what each of them, and a node, can see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.policy import ServerPolicy
from fedrec_client.node import COMPUTED
from fedrec_client.run_gate import Pins
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.helped_sums import HelpedSums
from fedrec_server.flower.messenger import Messenger
from fedrec_server.helper.noise import HelperNoise

from fedrec.audit.log.keys import default_key
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.secagg import Opening, vectors
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.nearby import Nearby
from tests.server.test_helper_over_nodes import attacked
from tests.server.test_trust_over_nodes import answers, in_process, verified

BOTH = ("privacy.trust=distributed", "privacy.noise_by=aggregators", "algorithm.dim=24")


class Accepting(Carded):
    """Nodes whose policy accepts noise of server and helper."""

    def consent(self) -> Consent:
        plain = Consent(computes=COMPUTED).policy
        pinned = ServerPolicy(helpers=self.pins.helpers if self.pins else ())
        run = replace(plain.run, noise_by=("aggregators",))
        return Consent(replace(plain, server=pinned, run=run), computes=COMPUTED)


@pytest.fixture
def helper(tmp_path: Path) -> Nearby:
    return Nearby(tmp_path / "helper")


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Nearby) -> Carded:
    pins = Pins((default_key().public.text,), helpers=(helper.named.key.text,))
    made = Accepting(tmp_path / "nodes", nodes=4, users=15, pins=pins)
    monkeypatch.setenv(*made.environment())
    return made


def centred(values: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return (values.astype(np.int64) + half) % (1 << bits) - half


def test_an_opened_sum_has_both_noises_and_each_partys_own_taken_off_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby
) -> None:
    """Bit for bit: total = exact sum of the nodes that stayed + noise of the server + noise of the helper.

    The variance of either rejects 2/3 and 3/2 of the plan's whole noise. One node drops, which changes none of it.
    """
    servers, helpers, found = [], [], []
    drawn, added = HelpedSums._own_noise, HelperNoise.added

    def of_server(self: HelpedSums, round_index: int) -> dict:
        servers.append(drawn(self, round_index))
        return servers[-1]

    def of_helper(self: HelperNoise, opening: Opening, queries, bits: int) -> Opening:
        noisy = added(self, opening, queries, bits)
        length = sum(query.integers.dimension for query in queries)
        bare, given = (vectors.unpack(each.masks, bits, length) for each in (opening, noisy))
        helpers.append(vectors.reduce(bare - given, bits))
        return noisy

    monkeypatch.setattr(HelpedSums, "_own_noise", of_server)
    monkeypatch.setattr(HelperNoise, "added", of_helper)
    grid = carded.grid()
    grid.twists[FIRST + 3] = lambda message, reply: None if message.metadata.message_type == "train" else reply
    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=4", *BOTH, "privacy.dropout=0.3"])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(grid, poll=0.001), helper=helper)
    sums = made.nodes.clipped_sums

    def kept(algorithm, shared, round_index, cohort):
        totals = sums(algorithm, shared, round_index, cohort)
        stayed = cohort[cohort < 45]
        found.append((round_index, dict(totals), in_process(made, shared, round_index, stayed)))
        return totals

    made.nodes.clipped_sums = kept
    made.run()
    verified(tmp_path / "run")
    assert len(found) == len(servers) == len(helpers) == 2
    ratios: dict[str, list[np.ndarray]] = {"server": [], "helper": []}
    for (round_index, totals, exact), own, other in zip(found, servers, helpers, strict=True):
        layout = made.nodes._masked._run.layout(round_index)
        others = layout.sums(other)
        for name, total in totals.items():
            known = made.setup.plan.discrete.query(round_index, name)
            bits = known.encoding.bits
            whole = exact[name] + own[name] + others[name].view(own[name].shape)
            assert torch.equal(total & ((1 << bits) - 1), whole & ((1 << bits) - 1))
            one = known.multiplier * np.sqrt(known.encoding.squared)
            for party, noise in (("server", own[name]), ("helper", others[name])):
                ratios[party].append(centred(noise.numpy().reshape(-1), bits) / one)
    for party, parts in ratios.items():
        values = np.concatenate(parts)
        assert 5 * np.sqrt(2 / len(values)) < 1 / 3, "enough numbers to reject 2/3"
        assert np.var(values) == pytest.approx(1, rel=5 * np.sqrt(2 / len(values))), party
    one, two = (np.concatenate(parts) for parts in ratios.values())
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(len(one)), "of two secrets"


def test_no_node_adds_noise_and_none_of_its_sums_leaves_but_under_masks_for_the_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby, capsys: pytest.CaptureFixture
) -> None:
    """Asked for a plain sum, or one that nodes mask among themselves, a node gives nothing."""

    def plain(packet: Packet) -> Packet:
        return replace(packet, kind=exchange.SUM)

    def of_peers(packet: Packet) -> Packet:
        return replace(packet, kind=masked.ADVERTISE)

    given, exact = [], UsersNoise.added

    def noted(self: UsersNoise, sums: dict, round_index: int, users: int) -> dict:
        given.append((sums, exact(self, sums, round_index, users)))
        return given[-1][1]

    monkeypatch.setattr(UsersNoise, "added", noted)
    grid, got = carded.grid(), []
    attacked(grid.nodes[FIRST], masked.HELPED, [plain, of_peers], got)
    carded.run(tmp_path / "run", BOTH, over=grid, helper=helper)
    assert got == ["terms", "terms"]
    assert given
    assert all(torch.equal(sums[name], sent[name]) for sums, sent in given for name in sums)
    assert not answers(carded, exchange.SUMS)
    statement = verified(tmp_path / "run")
    rows = {row["adversary"]: row["epsilon"] for row in statement["adversaries"]}
    assert rows["server"] == rows["helper"] == rows["server_with_colluders"] == statement["epsilon"]
    assert float(rows["model_recipients"]) < float(rows["server"])
    assert rows["server_and_helper"] is None
    begin = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0][0].payload
    assert begin["shares"]["noise_by"] == "aggregators"
    assert fedrec(["audit", "card", str(tmp_path / "run")]) == 0
    assert "helper" in capsys.readouterr().out


def test_a_lost_answer_comes_again_with_the_same_noise_and_another_round_has_another(
    tmp_path: Path, carded: Carded, helper: Nearby
) -> None:
    """Two draws on one sum would average out; one draw on two sums would show their difference."""
    openings = []

    def kept(answer):
        openings.append((answer.opening, helper.service.open(helper.asked[-1]).opening))
        return answer

    helper.twist = kept
    carded.run(tmp_path / "run", BOTH, helper=helper)
    assert all(first == again for first, again in openings)
    assert len({first for first, _ in openings}) == len(openings) == 2
