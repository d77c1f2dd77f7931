"""Trust model `distributed` with a helper, over nodes with gates: exact sums, dropouts, an absent or lying helper."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.run_gate import Pins
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.federation import FlowerFederation
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from fedrec_server.helper.link import HelperAway, HelperRefused
from fedrec_server.helper.messages import HelperAnswer, RoundRequest

from fedrec.audit.log.keys import default_key
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import FedrecError, InputError
from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.run.directory import RunDirectory
from fedrec.run.federation import RoundVoid
from fedrec.run.scenario import load_scenario
from fedrec.secagg import Opening, vectors
from fedrec.wire import Packet
from tests.server.carded import CHANGES, FIRST, Carded
from tests.server.hidden_rounds import compared
from tests.server.nearby import Nearby
from tests.server.test_trust_over_nodes import DISTRIBUTED, answers, in_process, verified


@pytest.fixture
def helper(tmp_path: Path) -> Nearby:
    return Nearby(tmp_path / "helper")


def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Nearby, count: int = 3) -> Carded:
    pins = Pins((default_key().public.text,), helpers=(helper.named.key.text,))
    made = Carded(tmp_path / "nodes", nodes=count, users=20, pins=pins)
    monkeypatch.setenv(*made.environment())
    return made


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Nearby) -> Carded:
    return nodes(tmp_path, monkeypatch, helper)


def charges(folder: Path) -> list[int]:
    entries = read_ledger(folder / "release/privacy/ledger.jsonl")[0]
    return [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"]


def test_a_node_answers_one_question_a_round_and_the_statement_has_the_helpers_rows(
    tmp_path: Path, carded: Carded, helper: Nearby, capsys: pytest.CaptureFixture
) -> None:
    """A server that has a helper uses it by default; each step of the helper is that of one which restarted."""
    carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)
    statement = verified(tmp_path / "run")
    kinds = [packet.kind for packet in carded.asked[0]]
    assert kinds == [exchange.HELLO, masked.HELPED, masked.HELPED]
    assert len(answers(carded, masked.MASKS)) == 2 * 3
    assert not answers(carded, exchange.REFUSAL)
    begin = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0][0].payload
    assert begin["card"]["helper"]["key"] == helper.named.key.text
    assert begin["shares"]["aggregator"] == "helper"
    rows = {row["adversary"]: row for row in statement["adversaries"]}
    assert rows["helper"]["epsilon"] == rows["server"]["epsilon"]
    assert float(rows["server_and_helper"]["epsilon"]) > float(rows["server"]["epsilon"])
    assert rows["server_and_helper"]["epsilon"] == rows["secure_aggregation_fails"]["epsilon"]
    assert "does not collude with the server" in json.dumps(statement)
    assert any("the helper sees which nodes" in line for line in statement["unprotected"])
    assert fedrec(["audit", "card", str(tmp_path / "run")]) == 0
    assert f"helper: {helper.named.key.text} at {helper.named.address}" in capsys.readouterr().out
    notes = sorted(file.name for file in (tmp_path / "run/release/privacy").glob("witness-*.note"))
    assert notes == ["witness-helper-card.note", "witness-helper.note"]


def test_a_scenario_may_leave_the_masks_to_the_nodes(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    """And then a question for the masks of a helper gets nothing."""
    grid, got = carded.grid(), []
    attacked(grid.nodes[FIRST], masked.ADVERTISE, [lambda packet: replace(packet, kind=masked.HELPED)], got)
    carded.run(tmp_path / "run", (*DISTRIBUTED, "privacy.aggregator=peers"), over=grid, helper=helper)
    assert got == ["terms"]
    assert len(answers(carded, masked.MASKS)) == 3 * 5 + 3 * 3
    assert helper.asked == []


def test_sums_with_a_helper_have_the_bits_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby
) -> None:
    """With the noise that each node drew taken off, the total is that of all users in one process, modulo 2^b."""
    noise, exact, found = [], UsersNoise.added, []

    def noted(self: UsersNoise, sums: dict, round_index: int, users: int) -> dict:
        given = exact(self, sums, round_index, users)
        noise.append({name: given[name] - sums[name] for name in sums})
        return given

    monkeypatch.setattr(UsersNoise, "added", noted)
    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=3", *DISTRIBUTED])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(carded.grid(), poll=0.001), helper=helper)
    sums = made.nodes.clipped_sums

    def kept(algorithm, shared, round_index, cohort):
        noise.clear()
        totals = sums(algorithm, shared, round_index, cohort)
        bare = {name: total - sum(each[name] for each in noise) for name, total in totals.items()}
        found.append((shared, round_index, cohort, bare))
        return totals

    made.nodes.clipped_sums = kept
    made.run()
    assert len(found) == 2
    for shared, round_index, cohort, bare in found:
        together = in_process(made, shared, round_index, cohort)
        for name, total in bare.items():
            bits = made.setup.plan.discrete.encoding(round_index, name).bits
            assert torch.equal(total & ((1 << bits) - 1), together[name])


def test_a_node_refuses_a_helper_that_its_policy_does_not_pin(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    """The default: server and helper of one operator would read every node's sum."""
    carded.pins = Pins((default_key().public.text,))
    with pytest.raises(TooFewNodes, match=r"0 of 3 nodes took part .* adds the helper's key to server\.helpers"):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)
    assert set(carded.codes()) == {"helper"}
    assert helper.asked == []


def test_a_card_that_its_helper_has_not_cosigned_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby
) -> None:
    """A server could show a card to nodes that the helper never saw."""
    monkeypatch.setattr(FlowerFederation, "cosign", lambda *_: None)
    with pytest.raises(TooFewNodes, match="no witness that it trusts"):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)
    assert set(carded.codes()) == {"witness"}


def attacked(node, kind: str, attacks: list, got: list[str]) -> None:
    """Let each attack change the node's next question of a kind, before the honest one."""
    honest, left = node.answer, list(attacks)

    def answer(packet: Packet) -> Packet:
        while packet.kind == kind and left:
            got.append(honest(left.pop(0)(packet)).facts["code"])
        return honest(packet)

    node.answer = answer


def test_a_charge_is_answered_once(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    """A second answer would be a second mask over the same vector, or over one of another question."""
    grid, again = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def repeated(packet: Packet) -> Packet:
        found = honest(packet)
        if packet.kind == masked.HELPED:
            again.extend([honest(packet), carded.node(0).answer(packet)])
        return found

    node.answer = repeated
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid, helper=helper)
    assert [answer.facts["code"] for answer in again] == ["stage"] * 4


def own_number(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, masked.COUNTS: "[2000, 2000, 2000]"})


def own_keys(packet: Packet) -> Packet:
    keys = packet.facts[masked.ROSTER]
    return replace(packet, facts={**packet.facts, masked.ROSTER: keys[:32] + bytes(range(64))})


def plain(packet: Packet) -> Packet:
    return replace(packet, kind=exchange.SUM)


def of_peers(packet: Packet) -> Packet:
    return replace(packet, kind=masked.ADVERTISE)


def test_a_server_that_cheats_gets_a_refusal(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    grid, got = carded.grid(), []
    attacked(grid.nodes[FIRST], masked.HELPED, [own_number, own_keys, plain, of_peers], got)
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid, helper=helper)
    assert got == ["roster", "roster", "terms", "terms"]


def test_nodes_may_drop_up_to_the_stated_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: Nearby) -> None:
    carded = nodes(tmp_path, monkeypatch, helper, 4)
    grid, silent = carded.grid(), {0}
    for n in range(4):
        grid.twists[FIRST + n] = lambda message, reply, n=n: None if n in silent and wanted(message) else reply
    changes = (*DISTRIBUTED, "privacy.dropout=0.25")
    carded.run(tmp_path / "run", changes, over=grid, helper=helper)
    verified(tmp_path / "run")
    assert [len(request_seeds(asked)) for asked in helper.asked] == [3, 3]
    silent.add(2)
    with pytest.raises(RoundVoid, match="noise of 30 users arrived; the run counts 45"):
        carded.run(tmp_path / "second", (*changes, "algorithm.rounds=8"), over=grid, helper=helper)
    assert charges(tmp_path / "second") == [0, 0, 0]
    assert len(helper.asked) == 2


def wanted(message) -> bool:
    return message.metadata.message_type == "train"


def request_seeds(asked: RoundRequest) -> tuple:
    from fedrec.secagg import OpenRequest

    return OpenRequest.decode(asked.opening).seeds


def test_a_helper_that_is_away_voids_the_round_and_the_next_charge_is_opened(
    tmp_path: Path, carded: Carded, helper: Nearby
) -> None:
    """First a request is lost, then a reply."""
    lost = ["request", "reply"]

    def away(what: str) -> None:
        if lost[:1] == [what]:
            lost.pop(0)
            raise HelperAway("the helper does not answer")

    def reply(answer: HelperAnswer) -> HelperAnswer:
        away("reply")
        return answer

    helper.before, helper.twist = lambda _: away("request"), reply
    carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=5"), helper=helper)
    assert charges(tmp_path / "run")[:4] == [0, 0, 0, 1]
    verified(tmp_path / "run")


def test_a_run_is_resumed_with_the_helper_that_knows_it(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    def killed(asked: RoundRequest) -> None:
        if asked.round_index == 1:
            raise KeyboardInterrupt

    helper.before = killed
    with pytest.raises(KeyboardInterrupt):
        carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=5"), helper=helper)
    helper.before = lambda _: None
    carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=5"), helper=helper, resume=True)
    assert charges(tmp_path / "run")[:4] == [0, 1, 1, 2]
    verified(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_began_without_a_helper_continues_without_one(
    tmp_path: Path, carded: Carded, helper: Nearby
) -> None:
    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carded.run(tmp_path / "run", DISTRIBUTED, on_round=killed)
    carded.run(tmp_path / "run", DISTRIBUTED, helper=helper, resume=True)
    assert helper.asked == helper.cards == []
    assert len(charges(tmp_path / "run")) >= 2


@pytest.mark.slow
def test_a_helper_of_another_key_cannot_continue_a_run(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    def killed(_: RoundRequest) -> None:
        raise KeyboardInterrupt

    helper.before = killed
    with pytest.raises(KeyboardInterrupt):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)
    other = Nearby(tmp_path / "other")
    with pytest.raises(FedrecError, match="does not name this helper"):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=other, resume=True)


def test_without_a_helper_the_setting_is_refused_in_one_line(tmp_path: Path, carded: Carded) -> None:
    with pytest.raises(InputError, match="start the server with --helper and --helper-key"):
        carded.run(tmp_path / "run", (*DISTRIBUTED, "privacy.aggregator=helper"))
    assert not (tmp_path / "run").exists()


def test_secret_coins_with_a_helper_have_the_sums_of_one_process_and_show_in_nothing_that_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby
) -> None:
    """Every node is asked about everybody, in every round; the helper sees seeds and these numbers alone."""
    hidden = ("privacy.participation=hidden", "privacy.sampling=0.4")
    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=3", *DISTRIBUTED, *hidden])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(carded.grid(), poll=0.001), helper=helper)
    rounds = compared(made, monkeypatch, users=20)
    made.run()
    assert len(rounds) == 2
    assert all(0 < len(fell) < 60 for fell in rounds)
    statement = verified(tmp_path / "run")
    rows = {row["adversary"]: row for row in statement["adversaries"]}
    for name in ("server", "helper", "server_and_helper"):
        assert "amplified by sampling" in rows[name]["why"]
    assert rows["helper"]["epsilon"] == rows["server"]["epsilon"] < rows["knows_the_cohort"]["epsilon"]
    assert {asked.counts for asked in helper.asked} == {(20, 20, 20)}
    asked = [packet for packet in carded.asked[0] if packet.kind == masked.HELPED]
    assert all(packet.facts["everybody"] is True and "cohort" not in packet.tensors for packet in asked)


def test_a_helper_that_lies_shifts_the_total_and_nothing_detects_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carded: Carded, helper: Nearby
) -> None:
    """The limit that docs/secagg.md states: privacy holds, correctness is the helper's word, as it is the server's."""
    given, exact, off = [], UsersNoise.added, []

    def noted(self: UsersNoise, sums: dict, round_index: int, users: int) -> dict:
        given.append(exact(self, sums, round_index, users))
        return given[-1]

    def lie(answer: HelperAnswer) -> HelperAnswer:
        opening = Opening.decode(answer.opening)
        made = made_of[0].nodes._masked._run.layout(helper.asked[-1].round_index)
        shifted = vectors.unpack(opening.masks, made.bits, made.length) + np.uint64(1).astype(vectors.word(made.bits))
        masks = vectors.pack(vectors.reduce(shifted, made.bits), made.bits)
        return replace(answer, opening=replace(opening, masks=masks).encode())

    monkeypatch.setattr(UsersNoise, "added", noted)
    scenario = load_scenario("quickstart", [*CHANGES, "engine.nodes=3", *DISTRIBUTED])
    made = Deployment(scenario, RunDirectory(tmp_path / "run"), Messenger(carded.grid(), poll=0.001), helper=helper)
    made_of, sums, helper.twist = [made], made.nodes.clipped_sums, lie

    def kept(algorithm, shared, round_index, cohort):
        given.clear()
        totals = sums(algorithm, shared, round_index, cohort)
        for name, total in totals.items():
            bits = made.setup.plan.discrete.encoding(round_index, name).bits
            off.append(torch.equal(total, sum(each[name] for each in given) & ((1 << bits) - 1)))
        return totals

    made.nodes.clipped_sums = kept
    made.run()
    assert not any(off[:1])
    verified(tmp_path / "run")


@pytest.mark.slow
def test_a_helper_that_answers_another_request_voids_the_round(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    helper.twist = lambda answer: replace(answer, opening=Opening(bytes(32), b"").encode())
    with pytest.raises(RoundVoid, match="opened another request"):
        carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=8"), helper=helper)


@pytest.mark.slow
def test_a_helper_that_does_not_cosign_ends_the_run(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    note = helper.keys.public.helper.key.text
    helper.twist = lambda answer: replace(answer, note=note)
    with pytest.raises(FedrecError, match="cosignature does not hold"):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)


def test_a_refusal_of_the_helper_ends_the_run_in_one_line(tmp_path: Path, carded: Carded, helper: Nearby) -> None:
    helper.options["min_nodes"] = 5
    with pytest.raises(HelperRefused, match="minimum cohort of 3; here at least 5"):
        carded.run(tmp_path / "run", DISTRIBUTED, helper=helper)
