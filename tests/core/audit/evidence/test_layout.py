"""A run's folders: which of them a command finds from whatever path it was given."""

from pathlib import Path

import pytest

from fedrec.audit.evidence.layout import Layout
from fedrec.audit.evidence.received_run import LEDGER, export, received
from fedrec.audit.statement.received import receive
from fedrec.cli import run
from tests.core.audit.audited_run import audited_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """RUN with `release/` and `private/`."""
    audited_run(tmp_path / "run" / "release")
    (tmp_path / "run" / "private").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize("given", ["", "release", "release/privacy"])
def test_every_path_into_a_run_leads_to_both_folders(folder: Path, given: str) -> None:
    found = Layout.of(folder / given)
    assert (found.root, found.release, found.private) == (folder, folder / "release", folder / "private")
    assert not found.flat
    assert received(folder / given).ledger == (folder / "release" / LEDGER).read_bytes()
    assert receive(folder / given).report == folder / "report.html"


def test_the_current_folder_may_be_the_release(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "release")
    assert received(Path()).ledger == (folder / "release" / LEDGER).read_bytes()
    assert run(["audit", "show", "."]) == 0
    assert run(["audit", "show", "privacy/statement.json"]) == 0


@pytest.mark.parametrize("given", ["", "privacy", "privacy/statement.json"])
def test_a_flat_run_and_a_release_under_another_name_are_read_as_they_are(tmp_path: Path, given: str) -> None:
    audited_run(tmp_path / "old")
    assert Layout.of(tmp_path / "old").flat
    assert receive(tmp_path / "old" / given).place == tmp_path / "old"


def test_a_folder_that_is_not_there_yet_gets_two_folders(tmp_path: Path) -> None:
    found = Layout.of(tmp_path / "new")
    assert (found.release, found.private) == (tmp_path / "new" / "release", tmp_path / "new" / "private")


def test_run_and_release_are_exported_as_the_same_bytes(folder: Path) -> None:
    assert export(folder) == export(folder / "release")


@pytest.mark.parametrize("command", [["combine", "--trust-run-key"], ["prove", "--record", "0"], ["show"]])
def test_commands_take_run_and_release(folder: Path, command: list[str]) -> None:
    for given in (folder, folder / "release"):
        assert run(["audit", command[0], str(given), *command[1:]]) == 0
