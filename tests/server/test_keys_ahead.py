"""Rounds of a secure sum over nodes whose keys were made during the round before: attacks, losses and restarts."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedrec.audit.card.receipt import parse_receipt
from fedrec.audit.log.ledger import read_ledger
from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.secagg import Advertise, KeyList, Shares
from fedrec.wire import Packet, WireError
from tests.server.carded import FIRST, Carded
from tests.server.grid_in_memory import with_packet
from tests.server.test_trust_over_nodes import DISTRIBUTED, answers, counted, others_counted, verified

WHOLE, PREPARED = 5, 3
"""Stages of a round that begins with new keys, and of one whose keys were made ahead."""


@pytest.fixture
def carded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carded:
    made = Carded(tmp_path / "nodes", nodes=3, users=20)
    monkeypatch.setenv(*made.environment())
    return made


def charged(run: Path) -> list[int]:
    entries = read_ledger(run / "release/privacy/ledger.jsonl")[0]
    return [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"]


def kinds(carded: Carded, round_index: int, n: int = 0) -> list[str]:
    return [packet.kind for packet in carded.asked[n] if packet.round == round_index and packet.kind in masked.STAGES]


def without_ahead(packet: Packet) -> Packet:
    return replace(packet, facts={name: fact for name, fact in packet.facts.items() if name != masked.AHEAD})


def other_ahead(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, masked.AHEAD: packet.facts[masked.AHEAD] - 1})


@pytest.mark.parametrize(("attack", "code"), [
    (counted, "roster"), (others_counted, "roster"), (without_ahead, "stage"), (other_ahead, "stage"),
])  # fmt: skip
def test_a_round_of_keys_ahead_has_the_numbers_of_users_and_the_keys_of_its_own(
    tmp_path: Path, carded: Carded, attack, code: str
) -> None:
    """The question that was checked at `advertise` is checked here at `masked`, and the honest one still passes."""
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def attacked(packet: Packet) -> Packet:
        if packet.kind == masked.MASKED and packet.round == 1 and not got:
            got.append(honest(attack(packet)))
        return honest(packet)

    node.answer = attacked
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert got[0].facts["code"] == code
    assert charged(tmp_path / "run") == [0, 1]


def test_a_second_question_under_the_same_keys_gets_nothing(tmp_path: Path, carded: Carded) -> None:
    """Two numbers of users are two questions: the difference of their sums would be what one user adds."""
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def moved(packet: Packet) -> Packet:
        own, *others = json.loads(packet.facts[masked.COUNTS])
        return replace(packet, facts={**packet.facts, masked.COUNTS: json.dumps([own, others[0] - 1, *others[1:]])})

    def attacked(packet: Packet) -> Packet:
        found = honest(packet)
        if packet.kind == masked.MASKED and packet.round == 1 and not got:
            got.extend(honest(each) for each in (moved(packet), packet))
        return found

    node.answer = attacked
    with contextlib.suppress(FedrecError):
        carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert [answer.facts.get("code") for answer in got] == ["stage", "stage"]


def test_a_node_that_restarts_between_rounds_costs_one_void_round(tmp_path: Path, carded: Carded) -> None:
    """Its keys were in memory alone. The server has no other ones, asks all for new keys, and the sum is right."""
    grid, again = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def restarted(packet: Packet) -> Packet:
        if packet.kind == masked.MASKED and packet.round == 1 and not again:
            again.append(carded.node(0))
        return (again[0].answer if again else honest)(packet)

    node.answer = restarted
    carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=4"), over=grid)
    assert "stage" in carded.codes(0)
    assert charged(tmp_path / "run")[:3] == [0, 1, 1]
    assert kinds(carded, 1, 1)[-WHOLE:] == list(masked.STAGES)
    verified(tmp_path / "run")


def test_a_node_that_lost_the_shared_tensors_gets_them_in_the_same_round(tmp_path: Path, carded: Carded) -> None:
    grid, lost = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def forgetful(packet: Packet) -> Packet:
        if packet.kind == masked.MASKED and packet.round == 1 and not lost:
            lost.append(dict(node.held))
            node.held.clear()
        return honest(packet)

    node.answer = forgetful
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert lost[0]
    assert carded.codes(0) in (["missing"], []), "all tensors of a round may be new ones"
    assert charged(tmp_path / "run") == [0, 1]
    verified(tmp_path / "run")


def bad_offer(packet: Packet) -> Packet:
    """Keys of another node's place."""
    if packet.kind == masked.MASKS and packet.tensors:
        own = Advertise.decode(packet.facts[masked.NEXT])
        return replace(packet, facts={**packet.facts, masked.NEXT: replace(own, sender=1).encode()})
    return packet


def no_offer(packet: Packet) -> Packet:
    return replace(packet, facts={name: fact for name, fact in packet.facts.items() if name != masked.NEXT})


def junk(packet: Packet) -> Packet:
    return replace(packet, facts={**packet.facts, **({masked.NEXT: b"x"} if masked.NEXT in packet.facts else {})})


def others_shares(packet: Packet) -> Packet:
    if masked.NEXT in packet.facts and not packet.tensors:
        own = Shares.decode(packet.facts[masked.NEXT])
        return replace(packet, facts={**packet.facts, masked.NEXT: replace(own, member=1).encode()})
    return packet


@pytest.mark.parametrize("twist", [bad_offer, no_offer, junk, others_shares])
def test_a_node_whose_keys_ahead_do_not_fit_drops_from_no_round(tmp_path: Path, carded: Carded, twist) -> None:
    grid = carded.grid()
    grid.twists[FIRST] = with_packet(twist)
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert charged(tmp_path / "run") == [0, 1]
    assert kinds(carded, 1, 1) == list(masked.STAGES), "the second round begins with new keys"
    verified(tmp_path / "run")


def test_keys_ahead_that_the_server_makes_itself_are_not_shared_with(tmp_path: Path, carded: Carded) -> None:
    """The node signs the survivors of its round all the same, and has no keys for the next one."""
    grid, got = carded.grid(), []
    node = grid.nodes[FIRST]
    honest = node.answer

    def attacked(packet: Packet) -> Packet:
        if packet.kind == masked.CONFIRM and not got:
            keys = KeyList.decode(packet.facts[masked.NEXT]).keys
            own = (replace(keys[0], mask=bytes(range(32))), *keys[1:])
            got.append(honest(replace(packet, facts={**packet.facts, masked.NEXT: KeyList(own).encode()})))
            return got[0]
        return honest(packet)

    node.answer = attacked
    carded.run(tmp_path / "run", DISTRIBUTED, over=grid)
    assert masked.NEXT not in got[0].facts
    assert got[0].kind == masked.MASKS
    assert charged(tmp_path / "run") == [0, 1]


def test_the_card_s_charge_is_behind_every_masked_vector(tmp_path: Path, carded: Carded) -> None:
    """Keys travel ahead of a charge; no vector does: each receipt names the charge of its own round."""
    carded.run(tmp_path / "run", (*DISTRIBUTED, "algorithm.rounds=3"))
    assert [kinds(carded, round_index) for round_index in range(3)] == [
        list(masked.STAGES), list(masked.STAGES[-PREPARED:]), list(masked.STAGES[-PREPARED:]),
    ]  # fmt: skip
    vectors = [packet for packet in answers(carded, masked.MASKS) if packet.tensors]
    entries = read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]
    charges = [place for place, entry in enumerate(entries) if entry.payload["type"] == "charge"]
    named = [parse_receipt(packet.facts[exchange.RECEIPT]) for packet in vectors]
    assert sorted(each.charge for each in named) == sorted(3 * charges)
    assert all(each.charge == charges[each.round_index] for each in named)
    verified(tmp_path / "run")


@pytest.mark.parametrize("number", ["1", 1.0, True])
def test_a_number_of_keys_that_is_none_is_refused(number) -> None:
    with pytest.raises(WireError):
        masked.ahead_of(Packet(masked.MASKED, facts={masked.AHEAD: number}))
