"""A receipt is the node's word for one answer: no field of it can change, and it shows nothing of the answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedrec.audit.card.receipt import Receipt, answer_commitment, parse_receipt, question_digest
from fedrec.errors import VerificationError
from fedrec.transport.node_key import NodeKey, load_node_key, new_node_key


@pytest.fixture
def key(tmp_path: Path) -> NodeKey:
    new_node_key(tmp_path / "node.key")
    return load_node_key(tmp_path / "node.key")


def receipt(key: NodeKey) -> Receipt:
    question = question_digest("run1", 2, 5, "ab" * 32, {"items": "cd" * 16})
    answer = answer_commitment("00" * 32, {"items": "ef" * 16})
    return Receipt("run1", 2, 5, question, answer, 6, b"r" * 32, key.public).signed(key.sign)


def test_a_receipt_travels_as_text_and_verifies(key: NodeKey) -> None:
    made = receipt(key)
    found = parse_receipt(made.text)
    assert found == made
    assert found.digest == made.digest
    found.verify()
    assert receipt(key).digest != made.digest, "a receipt that can be made again could be guessed"


def test_no_field_of_a_receipt_can_change(key: NodeKey, tmp_path: Path) -> None:
    new_node_key(tmp_path / "other.key")
    made, other = receipt(key), load_node_key(tmp_path / "other.key")
    for changes in (
        {"run": "run2"},
        {"round_index": 3},
        {"charge": 6},
        {"question": "00" * 32},
        {"answer": "00" * 32},
        {"size": 7},
        {"root": b"s" * 32},
        {"node": other.public},
        {"signature": b""},
    ):
        with pytest.raises(VerificationError, match="not signed"):
            replace(made, **changes).verify()


def test_the_commitment_depends_on_its_nonce() -> None:
    sums = {"items": "ef" * 16}
    assert answer_commitment("00" * 32, sums) != answer_commitment("01" * 32, sums)
    assert answer_commitment("00" * 32, sums) != answer_commitment("00" * 32, {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@v1", "@v2"),
        ("round 2", "round 02"),
        ("round 2", "round -2"),
        ("round 2\n", ""),
        ("run run1", "run a/b"),
        ("head 6", "head 6 "),
        ("question ", "question Q"),
        ("\n\n", "\n\n\n"),
    ],
)
def test_other_spellings_are_refused(old: str, new: str, key: NodeKey) -> None:
    text = receipt(key).text
    assert old in text
    with pytest.raises(VerificationError, match="no receipt"):
        parse_receipt(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "x", "\n\n", "a\n\nb", "\ud800", "x" * 5000, "\u00e9"])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(VerificationError, match="no receipt"):
        parse_receipt(text)
