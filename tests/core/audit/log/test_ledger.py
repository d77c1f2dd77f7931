"""The ledger: on disk before a release, whole after a crash at any byte, and loud about every change."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from fedrec.audit.log import checkpoint, envelope, ledger
from fedrec.audit.log.envelope import Subject
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger, checkpoint_path, read_ledger
from fedrec.errors import InputError, VerificationError

KEY = SigningKey.generate()
BEGINNING = hashlib.sha256(b"").hexdigest()
"""Root of the empty tree (RFC 6962)."""


def payload(round_index: int) -> dict:
    return {"type": "charge", "round": round_index, "epsilon": {"pld": f"{round_index / 10:.6f}"}, "ü": None}


def opened(path: Path) -> Ledger:
    return Ledger(path, KEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = opened(tmp_path / "privacy" / "ledger.jsonl")
    for round_index in range(4):
        made.append(payload(round_index))
    made.seal()
    return made.path


def sealed(path: Path) -> checkpoint.Checkpoint:
    return checkpoint.parsed(checkpoint_path(path).read_text())


def test_what_is_appended_is_read_again(path: Path) -> None:
    found = opened(path)
    assert [entry.payload for entry in found.entries] == [payload(round_index) for round_index in range(4)]
    assert [entry.index for entry in found.entries] == [0, 1, 2, 3]
    assert found.entries[0].previous == BEGINNING
    assert read_ledger(path) == (found.entries, found.head)


def test_what_a_record_is_about(path: Path) -> None:
    found = opened(path)
    found.append({"type": "end"}, ("model.safetensors", "0" * 64))
    assert found.entries[-1].about == Subject("model.safetensors", "0" * 64)
    assert found.entries[0].about == Subject("ledger", BEGINNING)
    record = envelope.parsed(path.read_bytes().splitlines()[-1])
    assert record.statement["predicateType"] == "urn:fedrec:ledger:end:v1"
    assert record.subject[0] == f"{found.run}/model.safetensors"


def test_heads_form_a_chain(tmp_path: Path) -> None:
    made = opened(tmp_path / "ledger.jsonl")
    heads = [made.head]
    assert heads == [BEGINNING]
    for round_index in range(3):
        heads.append(made.append(payload(round_index)))
        assert made.head == heads[-1]
    assert [entry.previous for entry in made.entries] == heads[:-1]
    assert len(set(heads)) == 4


def test_a_reopened_ledger_goes_on(path: Path) -> None:
    run = opened(path).run
    opened(path).append(payload(4))
    assert [entry.payload["round"] for entry in opened(path).entries] == [0, 1, 2, 3, 4]
    assert opened(path).run == run


def test_every_single_append_of_a_slow_writer_is_sealed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, now = opened(path), [0.0]
    monkeypatch.setattr(ledger.time, "monotonic", lambda: now[0])
    for elapsed, expected in ((0.0, 5), (0.5, 5), (1.1, 7), (1.2, 7)):
        now[0] = elapsed
        writer.append(payload(9))
        assert sealed(path).size == expected
    writer.seal()
    assert sealed(path).size == 8
    assert sealed(path).root.hex() == writer.head
    assert sealed(path).signed_by(KEY.public)


# What a crash leaves


def test_a_crash_at_any_byte_of_the_last_record_loses_only_that_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is still that of the records before, since it is written after the record is on disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # some hundred crashes
    whole, heads = path.read_bytes(), [entry.previous for entry in opened(path).entries]
    before = whole[: whole[:-1].rfind(b"\n") + 1]
    path.write_bytes(before)
    old = checkpoint.Checkpoint(opened_run(path), 3, bytes.fromhex(heads[3])).signed(KEY).note
    for end in range(len(before), len(whole)):
        path.write_bytes(whole[:end])
        checkpoint_path(path).write_text(old)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert len(read_ledger(path)[0]) == 3
            found = opened(path)
        torn = end - len(before)
        assert [str(each.message).count(f"dropped {torn} bytes") for each in told] == ([1] if torn else [])
        assert len(found.entries) == 3
        assert found.head == heads[3]
        assert path.read_bytes() == before
    path.write_bytes(whole)  # the whole record, and the old checkpoint: it was charged, so it counts
    assert len(opened(path).entries) == 4
    assert sealed(path).size == 4


def opened_run(path: Path) -> str:
    return sealed(path).run


def test_a_crash_at_any_byte_of_a_checkpoint_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint_path(path).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    real = os.replace
    writer = opened(path)
    monkeypatch.setattr(os, "replace", lambda source, target: None)
    writer.append(payload(4))
    monkeypatch.setattr(os, "replace", real)
    assert checkpoint_path(path).read_bytes() == before
    fresh = checkpoint_path(path).with_name(".checkpoint.new")
    whole = fresh.read_bytes()
    for end in range(len(whole) + 1):
        fresh.write_bytes(whole[:end])
        checkpoint_path(path).write_bytes(before)
        assert len(opened(path).entries) == 5
        assert sealed(path).size == 5


def test_a_crash_while_the_files_are_made_leaves_a_new_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert opened(path).entries == ()
    path.unlink()  # its checkpoint, of no records, is there
    made = opened(path)
    made.append(payload(0))
    assert len(opened(path).entries) == 1


def test_a_killed_writer_leaves_every_entry_that_it_told_of(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = """
        import sys
        from pathlib import Path
        from fedrec.audit.log.ledger import Ledger
        ledger = Ledger(Path(sys.argv[1]))
        for round in range(10**9):
            print(ledger.append({"round": round}), flush=True)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = [writer.stdout.readline().strip() for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    told += writer.stdout.read().split()
    writer.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Ledger(path)
    heads = [*(entry.previous for entry in found.entries[1:]), found.head]
    complete = [head for head in told if len(head) == 64]
    assert heads[: len(complete)] == complete
    assert len(heads) <= len(complete) + 1
    assert sealed(path).size == len(heads)


# What no crash leaves


@pytest.mark.parametrize("change", ["drop first", "drop middle", "swap", "repeat", "blank line", "other spacing"])
def test_changed_lines_are_refused(path: Path, change: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "drop first": lines[1:],
        "drop middle": [*lines[:1], *lines[2:]],
        "swap": [lines[0], lines[2], lines[1], lines[3]],
        "repeat": [*lines[:2], lines[1], *lines[2:]],
        "blank line": [*lines[:2], b"\n", *lines[2:]],
        "other spacing": [lines[0].replace(b":", b": ", 1), *lines[1:]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(VerificationError, match=r"record \d (does not follow|is )"):
        opened(path)
    with pytest.raises(VerificationError, match="restore it from a copy"):
        read_ledger(path)


def test_fewer_records_than_the_checkpoint_are_refused(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(VerificationError, match="covers 4 records and 3 are there"):
        opened(path)
    path.unlink()
    with pytest.raises(VerificationError, match="covers 4 records and 0 are there"):
        opened(path)


def test_a_missing_or_changed_checkpoint_is_refused(path: Path) -> None:
    note = checkpoint_path(path).read_text()
    for changed in (note.replace("\n4\n", "\n3\n"), note[:-2], "", note.replace(opened_run(path), "0" * 16)):
        checkpoint_path(path).write_text(changed)
        with pytest.raises(VerificationError):
            opened(path)
    checkpoint_path(path).unlink()
    with pytest.raises(VerificationError, match="is missing"):
        opened(path)


def test_a_record_beyond_the_checkpoint_must_be_signed(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    thief = SigningKey.generate()
    found = read_ledger(path)
    forged = envelope.signed(4, found[1], opened_run(path), payload(4), None, thief)
    path.write_bytes(b"".join(lines) + forged.line + b"\n")
    with pytest.raises(VerificationError, match="record 4 is not signed by the ledger's key"):
        opened(path)


def test_another_key_is_refused_and_can_take_over(path: Path) -> None:
    new = SigningKey.generate()
    with pytest.raises(VerificationError, match=r"signed by another key .* keys rotate"):
        Ledger(path, new)
    opened(path).rotate(new)
    with pytest.raises(VerificationError, match="signed by another key"):
        opened(path)
    again = Ledger(path, new)
    again.append(payload(4))
    assert again.entries[4].payload == {"type": "key", "old": KEY.public.text, "new": new.public.text}
    assert len(Ledger(path, new).entries) == 6


def test_a_crash_between_the_handing_over_and_its_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = SigningKey.generate(), opened(path)
    monkeypatch.setattr(Ledger, "seal", lambda self: None)
    old.rotate(new)
    monkeypatch.undo()
    assert sealed(path).signed_by(KEY.public)
    assert len(Ledger(path, new).entries) == 5
    assert sealed(path).signed_by(new.public)


def test_two_writers_do_not_mix(path: Path) -> None:
    one, other = opened(path), opened(path)
    one.append(payload(4))
    with pytest.raises(VerificationError, match="somebody else writes to this ledger"):
        other.append(payload(4))
    assert len(opened(path).entries) == 5


def test_the_entry_is_synced_before_append_returns_and_before_its_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, seen = opened(path), []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (seen.append((os.fstat(handle).st_size, sealed(path).size)), real(handle))[1]
    )
    writer.append(payload(4))
    assert seen[0] == (path.stat().st_size, 4)
    assert seen[1][0] == checkpoint_path(path).stat().st_size, "the checkpoint is on disk before it is put in place"
    assert len(seen) == 2


def test_a_failed_write_is_told_and_hides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, head = opened(path), opened(path).head

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\), so nothing is released"):
        writer.append(payload(4))
    assert writer.head == head
    with pytest.raises(VerificationError, match="somebody else"):
        writer.append(payload(4))
    monkeypatch.undo()
    assert len(opened(path).entries) == 5  # it had reached the file after all: it counts


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(path: Path, value: float) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        opened(path).append({"epsilon": value})
    assert path.read_bytes() == before


def test_places_that_cannot_hold_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the ledger cannot be opened"):
        opened(tmp_path / "file" / "ledger.jsonl")
    with pytest.raises(InputError, match="the ledger cannot be read"):
        read_ledger(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
