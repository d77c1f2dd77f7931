"""A run card is accepted from a pinned key alone, whole, in time and within bounds; and no torch is needed for it."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.audit.card.card import CardRefused
from fedrec.audit.card.checks import MOST_BYTES, check_card
from fedrec.audit.log.keys import SigningKey
from tests.core.audit.carded import FINGERPRINT, NOW, begin, card, ledger, published, query

KEY, OTHER, WITNESS = (SigningKey.generate() for _ in range(3))


def text(folder: Path, **changes: object) -> str:
    return published(ledger(folder, KEY, begin(KEY, **changes))).card_text()


def refused(proof: str, keys: list = [KEY.public], **options: object) -> str:  # noqa: B006
    with pytest.raises(CardRefused) as found:
        check_card(proof, keys, options.pop("now", NOW), **options)
    assert "\n" not in str(found.value)
    assert found.value.exit_code == 4
    return found.value.code


def test_a_card_from_a_pinned_key_is_read_whole(tmp_path: Path) -> None:
    found = check_card(text(tmp_path), [OTHER.public, KEY.public], NOW)
    assert (found.run, found.key, found.serial, found.fingerprint) == ("run1", KEY.public, 17, FINGERPRINT)
    assert (found.algorithm, found.dataset, found.trust, found.private) == ("als", "nodes", "central", True)
    assert (found.epsilon, found.delta, found.sampling, found.users) == (2.0, 1e-5, 0.5, 100)
    assert (found.minimum_cohort, found.nodes, found.rounds, found.asking_rounds) == (20, 3, 6, 6)
    assert (found.expected_cohort, found.largest_clip, found.checkpoint.size) == (50, 2.0, 1)
    assert [found.terms(n)[0].name for n in (0, 4, 5)] == ["items", "items", "evaluation"]
    assert (found.terms(2)[0].shape, found.terms(2)[0].size, found.terms(2)[0].noise_std) == ((5, 2), 10, 6.0)
    for wrong in (-1, 6):
        with pytest.raises(CardRefused, match=r"rounds 0\.\.5"):
            found.terms(wrong)


def test_a_key_that_is_not_pinned_is_refused_by_one_word(tmp_path: Path) -> None:
    assert refused(text(tmp_path), [OTHER.public]) == "key"
    assert refused(text(tmp_path / "b"), []) == "key"


def test_an_expired_card_is_refused(tmp_path: Path) -> None:
    proof = text(tmp_path)
    late = check_card(proof, [KEY.public], NOW).expires
    assert refused(proof, now=late) == "expired"
    check_card(proof, [KEY.public], late - timedelta(seconds=1))


def test_a_card_that_is_edited_after_signing_is_refused(tmp_path: Path) -> None:
    proof = text(tmp_path)
    for old, new in [
        ('"clip_norm":"2.0"', '"clip_norm":"9.0"'),
        ('"users":100', '"users":900'),
        ('"serial":17', '"serial":18'),
        ("2026-12-30", "2036-12-30"),
        ('"sampling":{"probability":"0.5"}', '"sampling":{"probability":"0.1"}'),
    ]:
        assert old in proof
        assert refused(proof.replace(old, new)) == "card"


def test_a_card_under_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    mine, others = text(tmp_path), published(ledger(tmp_path / "b", KEY, run="run2")).card_text()
    body, note = mine.partition("\n\n")[0], others.partition("\n\n")[2]
    assert refused(body + "\n\n" + note) == "card"


def test_a_card_signed_by_another_key_under_a_pinned_checkpoint_is_refused(tmp_path: Path) -> None:
    """The record is the attacker's; only the checkpoint is the pinned key's. A proof alone would let it pass."""
    from fedrec.audit.log.checkpoint import Checkpoint

    forged = published(ledger(tmp_path, OTHER, begin(KEY)))
    chain = forged._ledger.chain
    note = Checkpoint("run1", 1, chain.roots[1]).signed(KEY).note
    assert refused(forged.card_text().partition("\n\n")[0] + "\n\n" + note) == "card"


def test_a_later_record_is_no_card(tmp_path: Path) -> None:
    made = ledger(tmp_path, KEY)
    made.append(begin(KEY))
    from fedrec.audit.log import proofs

    assert refused(proofs.of_record(made.chain, published(made).seal(), 1)) == "card"


def test_a_witness_is_demanded_where_the_node_asks_for_one(tmp_path: Path) -> None:
    made = published(ledger(tmp_path, KEY))
    assert refused(made.card_text(), witnesses=[WITNESS.public]) == "witness"
    seen = made.seal().cosigned("witness/1", OTHER, 5)
    assert not made.cosigned([seen], [WITNESS.public])
    assert made.cosigned([made.seal().cosigned("witness/2", WITNESS, 5)], [WITNESS.public])
    assert refused(made.card_text(), witnesses=[OTHER.public]) == "witness"
    assert check_card(made.card_text(), [KEY.public], NOW, [OTHER.public, WITNESS.public]).run == "run1"


@pytest.mark.parametrize(
    "changes",
    [
        {"card": {}},
        {"card": card(serial="17")},
        {"card": card(serial=-1)},
        {"card": card(serial=2**63)},
        {"card": card(expires="2026-12-30")},
        {"card": card(expires="2026-12-30T00:00:00+01:00")},
        {"card": card(fingerprint="ab")},
        {"card": card(minimum_cohort=51)},
        {"card": card(minimum_cohort=True)},
        {"card": card(receipts=1)},
        {"type": "charge"},
        {"parties": []},
        {"parties": [{"role": "server", "key": OTHER.public.text}]},
        {"trust": "trusted"},
        {"delta": None},
        {"delta": "1.5"},
        {"target_epsilon": "nan"},
        {"target_epsilon": "1e999"},
        {"guarantee": "none"},
        {"sampling": {"probability": "0.0"}},
        {"sampling": {"probability": "1.5"}},
        {"sampling": []},
        {"population": {"users": 1.5}},
        {"rounds": 7},
        {"rounds": 10**9},
        {"plan": [{"rounds": [0, 5], "queries": [query(), query()]}]},
        {"plan": [{"rounds": [0, 2], "queries": []}, {"rounds": [2, 5], "queries": []}]},
        {"plan": [{"rounds": [0, True], "queries": []}]},
        {"plan": [{"rounds": [0, 5], "queries": [query(clip="1e200", std="3e200")]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query(multiplier="0", std="0")]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query(std="0.1")]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query() | {"clip_norm": None}]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query() | {"shape": [-1]}]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query() | {"shape": [1] * 9}]}]},
        {"plan": [{"rounds": [0, 5], "queries": [query(str(n)) for n in range(65)]}]},
        {"plan": [None]},
        {"seeded": 0},
        {"mechanism": {"name": "m" * 5000}},
    ],
)
def test_fields_of_another_type_or_out_of_bounds_are_refused(changes: dict, tmp_path: Path) -> None:
    assert refused(text(tmp_path, **changes)) == "card"


@pytest.mark.parametrize(
    "proof", ["", "\n\n", "x" * (MOST_BYTES + 1), "\ud800\n\n\ud800", "fedrec-record@v1\n\n", "[" * 100_000]
)
def test_what_is_no_proof_is_refused(proof: str) -> None:
    assert refused(proof) == "card"


@given(place=st.integers(0, 10**6), char=st.characters(codec="utf-8"), cut=st.integers(0, 3))
def test_a_card_with_any_other_character_is_refused(place: int, char: str, cut: int, whole: str) -> None:
    """Only what is signed holds: a changed text is refused, or is the text of the same card."""
    place %= len(whole)
    changed = whole[:place] + char + whole[place + cut :]
    try:
        found = check_card(changed, [KEY.public], NOW)
    except CardRefused:
        return
    assert found == check_card(whole, [KEY.public], NOW)
    assert changed == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return text(tmp_path_factory.mktemp("whole"))


def test_a_card_needs_neither_torch_nor_pydantic() -> None:
    program = (
        "import sys\n"
        "import fedrec.audit.card.checks, fedrec.audit.card.question, fedrec.audit.card.receipt\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'polars', 'flwr', 'rich', 'typer', 'opacus'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
