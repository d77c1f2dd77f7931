"""Verification lets pass what is whole, and nothing else: every byte, every record, every number."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, STATEMENT, Evidence, Older
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.statement.agreement import TEXT
from fedrec.audit.verify.verification import Verdict, integrity, verify
from tests.core.audit import ledgers
from tests.core.audit.ledgers import KEY, evidence, forged, lines_of, plan_of, sealed, with_file

PLAN = plan_of(epsilon=2.0)
PAYLOADS = ledgers.payloads_of(PLAN)
LINES = lines_of(PAYLOADS)
WHOLE = evidence(LINES)
SMALL = evidence(LINES[:2])
"""The beginning and one charge: small enough to try every byte."""
OTHER = SigningKey.generate()


def verdict(found: Evidence, **options: Any) -> Verdict:
    return verify(found, KEY.public, **options)


def faults(found: Evidence, **options: Any) -> str:
    return "\n".join(verdict(found, **options).faults)


def test_a_whole_record_verifies() -> None:
    found = verdict(WHOLE)
    assert found.faults == []
    assert found.notes == []
    assert found.facts["records"] == 5
    assert found.facts["rounds_charged"] == 3
    assert float(found.facts["epsilon"]["recomputed"]["tight"]) == pytest.approx(2.0, abs=2e-3)


@pytest.mark.parametrize("settings", [{"sampling": 0.2}, {"epsilon": 8.0}, {"epsilon": 0.1}, {"epsilon": "none"}])
def test_runs_of_every_kind_verify(settings: dict[str, Any]) -> None:
    assert faults(evidence(lines_of(ledgers.payloads_of(plan_of(**settings))))) == ""


# Every change of a byte


def broken(found: Evidence) -> bool:
    return bool(integrity(found, KEY.public)[2])


def test_every_changed_byte_of_the_ledger_is_detected() -> None:
    whole, rng = SMALL.files[LEDGER], random.Random(1)
    assert not broken(SMALL)
    for place, byte in enumerate(whole):
        changed = whole[:place] + bytes([byte ^ rng.choice([1, 32, rng.randrange(1, 256)])]) + whole[place + 1 :]
        assert broken(with_file(SMALL, LEDGER, changed)), (place, changed[place])


def test_every_changed_bit_of_the_checkpoint_is_detected() -> None:
    whole = SMALL.files[CHECKPOINT]
    for place, byte in enumerate(whole):
        for bit in range(8):
            changed = whole[:place] + bytes([byte ^ 1 << bit]) + whole[place + 1 :]
            assert broken(with_file(SMALL, CHECKPOINT, changed)), (place, bit)


def test_every_byte_left_out_or_put_in_is_detected() -> None:
    for name, step in ((LEDGER, 5), (CHECKPOINT, 1)):
        whole = SMALL.files[name]
        for place in range(0, len(whole), step):
            assert broken(with_file(SMALL, name, whole[:place] + whole[place + 1 :]))
            assert broken(with_file(SMALL, name, whole[:place] + b" " + whole[place:]))


def test_a_ledger_that_was_cut_off_is_detected() -> None:
    whole = SMALL.files[LEDGER]
    first = whole.index(b"\n")
    for end in {*range(0, len(whole), 9), *range(first - 2, first + 3), *range(len(whole) - 3, len(whole))}:
        assert broken(with_file(SMALL, LEDGER, whole[:end]))
    assert broken(with_file(SMALL, CHECKPOINT, None))


# Every record dropped, swapped, repeated, put in; under the checkpoint and beyond it


@pytest.mark.parametrize("tail", [False, True], ids=["sealed", "beyond the checkpoint"])
def test_records_dropped_swapped_repeated_or_put_in_are_detected(tail: bool) -> None:
    checkpoint = sealed(LINES[:1]) if tail else None
    assert faults(evidence(LINES, checkpoint)) == ""
    foreign = lines_of(PAYLOADS, OTHER)
    count = len(LINES)
    for place in range(count):
        changed = {
            "repeated": [*LINES[: place + 1], *LINES[place:]],
            "foreign": [*LINES[:place], foreign[place], *LINES[place + 1 :]],
            "put in": [*LINES[:place], foreign[place], *LINES[place:]],
        }
        if place < count - 1 or not tail:  # the last beyond a checkpoint can be cut off: a witness' matter
            changed["dropped"] = [*LINES[:place], *LINES[place + 1 :]]
        for other in range(place):
            lines = list(LINES)
            lines[place], lines[other] = lines[other], lines[place]
            changed[f"swapped with {other}"] = lines
        for what, lines in changed.items():
            assert broken(evidence(lines, checkpoint or sealed(LINES))), (what, place)


def test_random_changes_of_a_long_ledger_are_detected() -> None:
    lines = lines_of(ledgers.long_payloads(150))
    whole, rng = evidence(lines), random.Random(2)
    assert faults(whole) == ""
    content, checkpoint = whole.files[LEDGER], sealed(lines)
    for _ in range(25):
        place = rng.randrange(len(content))
        changed = content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :]
        assert broken(with_file(whole, LEDGER, changed))
        one, other = rng.sample(range(len(lines)), 2)
        swapped, dropped = list(lines), list(lines)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        del dropped[one]
        for changed_lines in (swapped, dropped, [*lines[:one], lines[other], *lines[one:]]):
            assert broken(evidence(changed_lines, checkpoint))


# Keys


def test_another_key_is_detected() -> None:
    assert "not signed by the key" in "\n".join(verify(WHOLE, OTHER.public).faults)
    forgery = lines_of(PAYLOADS, OTHER)
    found = faults(evidence(forgery, sealed(forgery, OTHER)))
    assert "record 0 is not signed by the key" in found
    assert f"{CHECKPOINT} is not signed" in found


def handed_over(at: int, old: SigningKey = KEY) -> list[dict[str, Any]]:
    record = {"type": "key", "old": old.public.text, "new": OTHER.public.text, "_key": OTHER}
    return [*PAYLOADS[:at], record, *PAYLOADS[at:]]


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_key_hands_over(at: int) -> None:
    lines = lines_of(handed_over(at))
    found = verdict(evidence(lines, sealed(lines, OTHER)))
    assert found.faults == []
    assert any(OTHER.public.text in note for note in found.notes)
    assert "privacy/checkpoint is not signed" in faults(evidence(lines, sealed(lines, KEY)))
    assert "not signed" in "\n".join(verify(evidence(lines, sealed(lines, OTHER)), OTHER.public).faults)


def test_a_key_hands_over_only_what_it_has() -> None:
    third = SigningKey.generate()
    lines = lines_of(handed_over(2, old=third))
    assert "replaces a key that is not the ledger's" in faults(evidence(lines, sealed(lines, OTHER)))
    thief = lines_of([*PAYLOADS[:2], {"type": "key", "old": KEY.public.text, "new": OTHER.public.text}], KEY)
    stolen = lines_of(PAYLOADS, OTHER)[3]
    assert "does not follow" in faults(evidence([*thief, stolen]))
    back = [*handed_over(2), {"type": "note", "_key": KEY}]
    assert "record 7 is not signed" in faults(evidence(lines_of([*back, {"type": "note"}])))


# Older copies


def test_a_rolled_back_or_rewritten_ledger_contradicts_an_older_copy() -> None:
    for size in range(len(LINES) + 1):
        kept = sealed(LINES[:size])
        assert faults(WHOLE, copies=[Older("kept", size, kept.root, kept)]) == ""
        assert faults(WHOLE, copies=[Older("kept", size, kept.root, None)]) == ""
        if size < len(LINES):
            whole = sealed(LINES)
            back = faults(evidence(LINES[:size] or LINES[:1]), copies=[Older("kept", len(LINES), whole.root, whole)])
            assert "kept covers 5 records" in back
    rewritten = forged(PAYLOADS, lambda payloads: payloads[0].update(dataset="other"))
    assert "kept fixes other records than the first 3" in faults(
        rewritten, copies=[Older("kept", 3, sealed(LINES[:3]).root, None)]
    )


def test_a_witness_that_is_demanded_must_have_cosigned() -> None:
    name = "privacy/witness-1.note"
    assert "has cosigned no checkpoint" in faults(WHOLE, witnesses=[OTHER.public])
    cosigned = sealed(LINES[:3]).cosigned("witness/1", OTHER, 1_700_000_000)
    found = verdict(with_file(WHOLE, name, cosigned.note.encode()), witnesses=[OTHER.public])
    assert found.faults == []
    assert any("cosigned the first 3 records" in note for note in found.notes)
    by_another = sealed(LINES[:3]).cosigned("witness/1", SigningKey.generate(), 1_700_000_000)
    assert "has cosigned no" in faults(with_file(WHOLE, name, by_another.note.encode()), witnesses=[OTHER.public])
    split = sealed(lines_of([PAYLOADS[0] | {"dataset": "other"}])).cosigned("witness/1", OTHER, 1_700_000_000)
    assert "fixes other records" in faults(with_file(WHOLE, name, split.note.encode()))


# Files next to the ledger

FILES: dict[str, tuple[str, bytes, str]] = {
    "model": (MODEL, b"other weights", "is not the file that the ledger names"),
    "manifest": ("model/manifest.json", b'{"sha256": "0"}', "does not belong to the model"),
    "scenario": ("scenario.toml", b"name = 'other'\n", "not the scenario that the ledger began with"),
    "statement": (STATEMENT, b"{}", "'epsilon' is missing"),
    "text": (TEXT, b"# Trust us", "differs from what the ledger gives in line 1"),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_beside_the_ledger_are_detected(case: str) -> None:
    name, content, message = FILES[case]
    assert message in faults(with_file(WHOLE, name, content))


def test_a_model_that_was_handed_over_apart() -> None:
    apart = with_file(WHOLE, MODEL, None)
    assert any("hand it over with --model" in note for note in verdict(apart).notes)
    assert faults(apart, model=WHOLE.digests[MODEL]) == ""
    assert "is not the file" in faults(apart, model="0" * 64)


def test_nothing_is_no_record() -> None:
    assert "there is no record" in faults(evidence([], sealed([])))


@pytest.mark.parametrize(
    "change",
    [lambda p: p[1].pop("queries"), lambda p: p[0].update(plan=3), lambda p: p[1]["epsilon"].update(pld="nan")],
)
def test_records_that_lack_something_are_faults_and_no_crash(change: Callable[[list[dict[str, Any]]], Any]) -> None:
    assert not verdict(forged(PAYLOADS, change)).holds
