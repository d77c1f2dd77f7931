"""The types of a ledger's records: what is read gives the same text again, and nothing that is signed gets lost."""

import copy
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.entries.account import account, record_of
from fedrec.audit.entries.records import BeginRecord, EndRecord
from fedrec.audit.log.chain import read
from fedrec.audit.verify import charges
from fedrec.charge import Charge
from fedrec.errors import VerificationError
from tests.core.audit import ledgers

FIXTURES = Path(__file__).parents[1] / "fixtures"
LEDGERS = sorted(FIXTURES.rglob("ledger.jsonl"))
PAYLOADS = ledgers.payloads_of(ledgers.plan_of(epsilon=2.0))
NEWER = {"later": {"a": [1, None, "x"]}}


@pytest.mark.parametrize("path", LEDGERS, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_a_record_that_was_read_gives_the_very_payload(path: Path) -> None:
    """Also those of format 1, which lacks fields: no default becomes part of the text."""
    read_back = 0
    for place, signed in enumerate(read(path.read_bytes()).records):
        record = record_of(signed.payload, place)
        if record is not None:
            assert record.payload() == signed.payload
            read_back += 1
    assert read_back > 3


@pytest.mark.parametrize("place", range(1, len(PAYLOADS)))
def test_fields_of_a_newer_version_are_kept(place: int) -> None:
    payload = PAYLOADS[place] | NEWER
    if payload["type"] == "charge":
        payload["epsilon"] = payload["epsilon"] | NEWER
    record = record_of(payload, place)
    assert record is not None
    assert record.payload() == payload


def test_the_first_record_holds_nothing_without_a_name() -> None:
    """A statement repeats all of it, so that a field which no statement knows is refused."""
    with pytest.raises(VerificationError, match="record 0 is no begin record: 'later'"):
        record_of(PAYLOADS[0] | NEWER, 0)


def test_a_term_without_a_name_is_compared_with_record_0() -> None:
    """The signer could add a term to a charge that no type here has a name for."""
    changed = copy.deepcopy(PAYLOADS)
    changed[1]["queries"][0] |= NEWER
    (fault,) = [fault for group in charges.check(account(changed)).faults for fault in group]
    assert fault.endswith("are not those of record 0")
    changed[0]["plan"][0]["queries"][0] |= NEWER
    assert not any(charges.check(account(changed)).faults)


@pytest.mark.parametrize(
    ("place", "change", "field"),
    [
        (-1, {"released_besides": ["hr"]}, "released_besides"),
        (-1, {"released_besides": {"hr": 0.5}}, "released_besides.hr"),
        (-1, {"private_files": "none"}, "private_files"),
        (-1, {"state": 7}, "state"),
        (-1, {"exhausted": True}, "exhausted"),
        (0, {"mechanism": "Gaussian"}, "mechanism"),
        (0, {"sampling": {"probability": "1.0", "claimed": 1}}, "sampling.claimed"),
        (1, {"round": True}, "round"),
        (1, {"round": 0.0}, "round"),
    ],
)
def test_a_wrong_type_is_a_fault_that_names_the_field(place: int, change: dict[str, Any], field: str) -> None:
    changed = copy.deepcopy(PAYLOADS)
    changed[place] |= change
    with pytest.raises(VerificationError, match=rf"record \d is no \w+ record: '{field}'"):
        account(changed)


def test_what_is_written_cannot_be_what_no_auditor_reads() -> None:
    """A charge is checked when it is made, not only when somebody verifies it."""
    with pytest.raises(ValueError, match="noise_multiplier"):
        Charge.model_validate(PAYLOADS[1] | {"queries": [PAYLOADS[1]["queries"][0] | {"noise_multiplier": "inf"}]})


def test_records_are_frozen_and_ordered() -> None:
    known = account(PAYLOADS)
    assert [charge.round for charge in known.charges] == [0, 1, 2]
    assert known.of(BeginRecord) == (known.begin,)
    assert known.of(EndRecord) == (known.end,)
    assert known.files is None
    with pytest.raises(ValueError, match="frozen"):
        known.begin.dataset = "another"  # type: ignore[misc]
