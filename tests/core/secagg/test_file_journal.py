"""A journal on disk: what was claimed stays claimed, and a crash leaves no half a claim."""

import os
from pathlib import Path

import pytest

from fedrec.secagg.file_journal import FileJournal


def test_a_claim_outlives_the_process_and_the_first_one_stays(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    assert FileJournal(folder).claimed(b"round") is None
    assert FileJournal(folder).claim(b"round", b"one") is None
    assert FileJournal(folder).claim(b"round", b"two") == b"one"
    assert FileJournal(folder).claimed(b"round") == b"one"
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_claim_that_a_crash_interrupts_was_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """An empty file under the name would read as another claim: the round could never be opened."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, call, crash)
        with pytest.raises(KeyboardInterrupt):
            FileJournal(tmp_path).claim(b"round", b"one")
    assert FileJournal(tmp_path).claim(b"round", b"two") is None


def test_of_two_who_claim_at_once_one_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, place: Path) -> None:
        place.write_bytes(b"other")
        link(source, place)

    monkeypatch.setattr(os, "link", late)
    assert FileJournal(tmp_path).claim(b"round", b"one") == b"other"
    assert len(list(tmp_path.iterdir())) == 1
