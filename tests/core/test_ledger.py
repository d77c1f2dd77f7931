"""The ledger: on disk before a release, whole after a crash at any byte, and loud about every change."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from fedrec.audit.ledger import BEGINNING, Ledger, read_ledger
from fedrec.errors import InputError, VerificationError


def payload(round: int) -> dict:
    return {"type": "charge", "round": round, "epsilon": {"pld": f"{round / 10:.6f}"}, "ü": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "privacy" / "ledger.jsonl")
    for round in range(4):
        ledger.append(payload(round))
    return ledger.path


def test_what_is_appended_is_read_again(path: Path) -> None:
    ledger = Ledger(path)
    assert [entry["payload"] for entry in ledger.entries] == [payload(round) for round in range(4)]
    assert [entry["index"] for entry in ledger.entries] == [0, 1, 2, 3]
    assert ledger.entries[0]["previous"] == BEGINNING
    assert read_ledger(path) == (ledger.entries, ledger.head)


def test_heads_form_a_chain(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    heads = [ledger.head]
    assert heads == [BEGINNING]
    for round in range(3):
        heads.append(ledger.append(payload(round)))
        assert ledger.head == heads[-1]
    assert [entry["previous"] for entry in ledger.entries] == heads[:-1]
    assert len(set(heads)) == 4


def test_a_reopened_ledger_goes_on(path: Path) -> None:
    Ledger(path).append(payload(4))
    assert [entry["payload"]["round"] for entry in Ledger(path).entries] == [0, 1, 2, 3, 4]


def test_a_crash_at_any_byte_of_the_last_write_loses_only_that_write(path: Path) -> None:
    whole = path.read_bytes()
    before = whole[: whole[:-1].rfind(b"\n") + 1]
    heads = [json.loads(line)["previous"] for line in whole.splitlines()]
    for end in range(len(before), len(whole)):
        path.write_bytes(whole[:end])
        if end == len(before):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                ledger = Ledger(path)
        else:
            assert len(read_ledger(path)[0]) == 3
            with pytest.warns(UserWarning, match=f"dropped {end - len(before)} bytes"):
                ledger = Ledger(path)
        assert len(ledger.entries) == 3
        assert ledger.head == heads[3]
        assert path.read_bytes() == before
    ledger.append(payload(3))
    assert path.read_bytes() == whole


def test_any_changed_byte_is_noticed(path: Path) -> None:
    """But in the last line's end the change may look like a torn write; the head that was kept tells then."""
    whole, head = path.read_bytes(), Ledger(path).head
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert read_ledger(path)[1] != head
        except VerificationError as error:
            assert f"{path}: line " in str(error)  # noqa: PT017


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
    with pytest.raises(VerificationError, match="does not follow from the line before"):
        Ledger(path)


def test_two_writers_do_not_mix(path: Path) -> None:
    one, other = Ledger(path), Ledger(path)
    one.append(payload(4))
    with pytest.raises(VerificationError, match="somebody else writes to this ledger"):
        other.append(payload(4))
    assert len(Ledger(path).entries) == 5


def test_the_entry_is_synced_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (sizes.append(os.fstat(handle).st_size), real(handle))[1])
    Ledger(path).append(payload(4))
    assert sizes == [path.stat().st_size]


def test_a_failed_write_is_told_and_hides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, head = Ledger(path), Ledger(path).head

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\), so nothing is released"):
        ledger.append(payload(4))
    assert ledger.head == head
    with pytest.raises(VerificationError, match="somebody else"):
        ledger.append(payload(4))
    monkeypatch.undo()
    assert len(Ledger(path).entries) == 5  # it had reached the file after all: it counts


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(path: Path, value: float) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        Ledger(path).append({"epsilon": value})
    assert path.read_bytes() == before


def test_places_that_cannot_hold_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the ledger cannot be opened"):
        Ledger(tmp_path / "file" / "ledger.jsonl")
    with pytest.raises(InputError, match="the ledger cannot be read"):
        read_ledger(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_a_killed_writer_leaves_every_entry_that_it_told_of(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = """
        import sys
        from pathlib import Path
        from fedrec.audit.ledger import Ledger
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
        ledger = Ledger(path)
    heads = [*(entry["previous"] for entry in ledger.entries[1:]), ledger.head]
    complete = [head for head in told if len(head) == 64]
    assert heads[: len(complete)] == complete
    assert len(heads) <= len(complete) + 1
