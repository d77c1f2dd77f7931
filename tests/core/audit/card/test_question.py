"""A question without its charge in the ledger that the device knows is refused, whatever server asks it."""

from pathlib import Path

import pytest

from fedrec.audit.card.card import CardRefused
from fedrec.audit.card.checks import check_card
from fedrec.audit.card.publish import LedgerProofs
from fedrec.audit.card.question import Forked, check_question
from fedrec.audit.log import proofs
from fedrec.audit.log.keys import SigningKey
from fedrec.errors import InputError, VerificationError
from tests.core.audit.carded import NOW, begin, charge, ledger, published, query

KEY, OTHER = SigningKey.generate(), SigningKey.generate()


@pytest.fixture
def server(tmp_path: Path) -> LedgerProofs:
    made = ledger(tmp_path, KEY)
    made.append(charge(0))
    return published(made)


def code(made: LedgerProofs, card: object, seen: object, round_index: int, charge: str, growth: str) -> str:
    with pytest.raises(CardRefused) as found:
        check_question(card, seen, round_index, charge, growth)
    return found.value.code


def test_a_charged_round_is_accepted_and_the_head_moves_on(server: LedgerProofs) -> None:
    card = check_card(server.card_text(), [KEY.public], NOW)
    seen = card.checkpoint
    for number in range(3):
        if number:
            server._ledger.append(charge(number))
        index, proof = server.charge(number)
        paid = check_question(card, seen, number, proof, server.growth(seen.size))
        assert (paid.charge, paid.round_index, paid.checkpoint.size) == (index, number, number + 2)
        seen = paid.checkpoint


def test_a_round_that_is_not_charged_has_no_proof(server: LedgerProofs) -> None:
    with pytest.raises(VerificationError, match="not charged"):
        server.charge(1)
    card = check_card(server.card_text(), [KEY.public], NOW)
    _, other_round = server.charge(0)
    growth = server.growth(None)
    assert code(server, card, card.checkpoint, 1, other_round, growth) == "charge"
    assert code(server, card, card.checkpoint, 0, server.card_text(), growth) == "charge"
    assert code(server, card, card.checkpoint, 0, growth, growth) == "charge"
    assert code(server, card, card.checkpoint, 0, "", growth) == "charge"
    assert code(server, card, card.checkpoint, 9, proofs.of_record(server._ledger.chain, server.seal(), 0), "") == (
        "charge"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"queries": [query(clip="1e6", std="3e6")]},
        {"queries": [query(multiplier="0.1", std="0.2")]},
        {"queries": [query() | {"shape": [2, 5]}]},
        {"queries": [query("others")]},
        {"queries": []},
        {"queries": [query(), query("more")]},
        {"sampling": "0.1"},
        {"delta": "1e-3"},
    ],
)
def test_a_charge_on_other_terms_than_the_card_is_refused(changes: dict, tmp_path: Path) -> None:
    made = ledger(tmp_path, KEY)
    made.append(charge(0, **changes))
    server = published(made)
    card = check_card(server.card_text(), [KEY.public], NOW)
    assert code(server, card, card.checkpoint, 0, server.charge(0)[1], server.growth(None)) == "terms"


def test_a_ledger_that_is_another_for_each_device_is_refused(server: LedgerProofs, tmp_path: Path) -> None:
    card = check_card(server.card_text(), [KEY.public], NOW)
    seen = check_question(card, card.checkpoint, 0, server.charge(0)[1], server.growth(None)).checkpoint
    made = ledger(tmp_path / "fork", KEY, begin(KEY, dataset="another"))
    made.append(charge(0))
    fork = published(made)
    with pytest.raises(Forked) as found:
        check_question(card, seen, 0, fork.charge(0)[1], fork.growth(2))
    old, new = found.value.evidence
    assert old.size == new.size
    assert old.root != new.root
    assert old.signed_by(KEY.public)
    assert new.signed_by(KEY.public)
    made.append(charge(1))
    assert code(fork, card, seen, 1, fork.charge(1)[1], fork.growth(2)) == "head"
    assert code(fork, card, seen, 1, fork.charge(1)[1], server.growth(2)) == "head"
    assert code(fork, card, seen, 1, fork.charge(1)[1], "") == "head"


def test_a_ledger_that_was_cut_back_is_refused(server: LedgerProofs, tmp_path: Path) -> None:
    card = check_card(server.card_text(), [KEY.public], NOW)
    server._ledger.append(charge(1))
    seen = check_question(card, card.checkpoint, 1, server.charge(1)[1], server.growth(1)).checkpoint
    made = ledger(tmp_path / "back", KEY)
    made.append(charge(0))
    back = published(made)
    with pytest.raises(Forked, match="cut back or forked"):
        check_question(card, seen, 0, back.charge(0)[1], back.growth(2))


def test_the_ledger_of_another_run_or_key_is_refused(server: LedgerProofs, tmp_path: Path) -> None:
    card = check_card(server.card_text(), [KEY.public], NOW)
    made = ledger(tmp_path / "b", KEY, run="run2")
    made.append(charge(0))
    other = published(made)
    assert code(other, card, card.checkpoint, 0, other.charge(0)[1], other.growth(1)) == "charge"
    made = ledger(tmp_path / "c", OTHER, begin(OTHER))
    made.append(charge(0))
    other = published(made)
    assert code(other, card, card.checkpoint, 0, other.charge(0)[1], other.growth(1)) == "key"


def test_a_ledger_without_a_card_publishes_nothing(tmp_path: Path) -> None:
    first = begin(KEY)
    del first["card"]
    with pytest.raises(InputError, match="no run card"):
        _ = published(ledger(tmp_path, KEY, first)).card
