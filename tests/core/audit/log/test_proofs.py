"""Proofs for readers without a ledger, and witnesses that sign only extensions of earlier states."""

import random
from pathlib import Path

import pytest

from fedrec.audit.evidence.received_run import Older
from fedrec.audit.log import chain as chains
from fedrec.audit.log import proofs
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.merkle import EMPTY
from fedrec.audit.log.witness import Witness
from fedrec.errors import FedrecError, InputError, VerificationError
from tests.core.audit import ledgers
from tests.core.audit.ledgers import KEY, lines_of, sealed

LINES = lines_of(ledgers.long_payloads(20))
CHAIN = chains.read(b"".join(line + b"\n" for line in LINES))
SEALED = sealed(LINES)
OTHER = SigningKey.generate()


def kept(size: int) -> Older:
    return Older("kept", size, CHAIN.roots[size], None)


@pytest.mark.parametrize("index", [0, 1, 7, 21])
def test_a_record_is_proven_without_the_ledger(index: int) -> None:
    proven = proofs.check(proofs.of_record(CHAIN, SEALED, index), KEY.public)
    assert proven.record is not None
    assert proven.record.payload == CHAIN.records[index].payload
    assert proven.facts["records"] == 22


def test_an_older_checkpoint_proves_its_own_records_only() -> None:
    old = sealed(LINES[:5])
    proofs.check(proofs.of_record(CHAIN, old, 4), KEY.public)
    with pytest.raises(InputError, match=r"covers records 0\.\.4"):
        proofs.of_record(CHAIN, old, 5)


def test_every_changed_byte_of_a_proof_is_noticed() -> None:
    rng = random.Random(3)
    for text in (proofs.of_record(CHAIN, SEALED, 6), proofs.of_growth(CHAIN, SEALED, kept(6))):
        content = text.encode()
        for place in range(len(content)):
            changed = content[:place] + bytes([content[place] ^ rng.randrange(1, 128)]) + content[place + 1 :]
            with pytest.raises(FedrecError):
                proofs.check(changed.decode("utf-8", "replace"), KEY.public)


def test_another_key_proves_nothing() -> None:
    with pytest.raises(VerificationError, match="not signed by the key"):
        proofs.check(proofs.of_record(CHAIN, SEALED, 6), OTHER.public)
    forged = sealed(LINES, OTHER)
    with pytest.raises(VerificationError, match="not signed by the key"):
        proofs.check(proofs.of_record(CHAIN, forged, 6), KEY.public)
    with pytest.raises(InputError, match="no proof"):
        proofs.check("nonsense", KEY.public)


@pytest.mark.parametrize("size", [0, 1, 6, 16, 22])
def test_growth_is_proven(size: int) -> None:
    proven = proofs.check(proofs.of_growth(CHAIN, SEALED, kept(size)), KEY.public)
    assert proven.before == (size, CHAIN.roots[size])


def test_a_rewritten_past_has_no_proof_of_growth() -> None:
    with pytest.raises(VerificationError, match="no beginning of this ledger"):
        proofs.of_growth(CHAIN, SEALED, Older("kept", 6, EMPTY, None))
    text = proofs.of_growth(CHAIN, SEALED, kept(6))
    from_another = text.replace(text.split("\n")[1], f"6 {proofs._b64(EMPTY)}")
    with pytest.raises(VerificationError, match="did not grow"):
        proofs.check(from_another, KEY.public)


def test_a_proof_of_one_round_in_ten_thousand_is_small() -> None:
    """The size that `fedrec bench ledger` measures; the path is filled up to the 14 hashes of ten thousand records."""
    text = proofs.of_record(CHAIN, SEALED, 6)
    path = text.split("\n\n")[0].split("\n")[5:]
    assert len(text.encode()) + (14 - len(path)) * 45 + 4 < 2048


# Witnesses


def test_a_witness_signs_growth_and_nothing_else(tmp_path: Path) -> None:
    witness = Witness(OTHER, "witness/1", tmp_path)
    assert witness.seen(ledgers.RUN) == (0, EMPTY)
    first = witness.cosign(sealed(LINES[:5]), (0, EMPTY), 100)
    assert first.cosigned_at(OTHER.public) == 100
    assert first.signed_by(KEY.public)
    again = Witness(OTHER, "witness/1", tmp_path)
    assert again.seen(ledgers.RUN) == (5, CHAIN.roots[5])
    with pytest.raises(VerificationError, match="rolled back"):
        again.cosign(sealed(LINES[:4]), (0, EMPTY), 101)
    with pytest.raises(VerificationError, match="not shown to extend"):
        again.cosign(SEALED, (4, CHAIN.roots[4]), 101)
    assert again.cosign(sealed(LINES[:5]), (5, CHAIN.roots[5]), 102).cosigned_at(OTHER.public) == 102
    again.cosign(SEALED, (5, CHAIN.roots[5]), 103)
    assert again.seen(ledgers.RUN) == (22, SEALED.root)


def test_a_witness_whose_memory_was_damaged_stops(tmp_path: Path) -> None:
    witness = Witness(OTHER, "witness/1", tmp_path)
    witness.cosign(SEALED, (0, EMPTY), 100)
    place = tmp_path / f"{ledgers.RUN}.note"
    place.write_text(place.read_text()[:-3])
    with pytest.raises(VerificationError, match="damaged"):
        witness.seen(ledgers.RUN)
    place.write_text(SEALED.note)
    with pytest.raises(VerificationError, match="no checkpoint that this witness cosigned"):
        witness.seen(ledgers.RUN)
    with pytest.raises(InputError, match="--name"):
        Witness(OTHER, "two words", tmp_path)
