"""Two histories of one run are not two runs, and not one either: `combine` and `diff` name where they part."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.evidence.received_run import LEDGER
from fedrec.audit.log.chain import parted
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.cli import run as fedrec
from tests.core.audit.audited_run import audited_run

KEY = SigningKey.generate()
"""A key without marks: that of a dishonest owner, who has deleted them."""


def audit(*arguments: Any) -> int:
    return fedrec(["audit", *map(str, arguments)])


@pytest.fixture
def forks(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and a copy of its first records with a different next record, signed by the same key."""
    first = audited_run(tmp_path / "a", epsilon=2.0, key=KEY)
    shutil.copytree(first, tmp_path / "b")
    Ledger(first / LEDGER, KEY).append({"type": "note", "what": "one"})
    Ledger(tmp_path / "b" / LEDGER, KEY).append({"type": "note", "what": "other"})
    return first, tmp_path / "b"


def test_each_fork_verifies_alone_and_together_they_are_refused(forks: tuple[Path, Path], capsys: Any) -> None:
    key = KEY.public.text
    for fork in forks:
        assert audit("combine", fork, "--key", key) == 0
    capsys.readouterr()
    for command in (["combine", *forks, "--key", key], ["combine", *forks[::-1], "--key", key], ["diff", *forks]):
        assert audit(*command) == 4
        error = capsys.readouterr().err
        assert "record 6 of run" in error
        assert "forked" in error


def test_an_older_copy_is_counted_once(forks: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(forks[0], tmp_path / "older")
    Ledger(forks[0] / LEDGER, KEY).append({"type": "note", "what": "later"})
    assert audit("combine", forks[0], "--key", KEY.public.text, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    for order in ((forks[0], tmp_path / "older"), (tmp_path / "older", forks[0])):
        assert audit("combine", *order, "--key", KEY.public.text, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["older_copies"] == [str(tmp_path / "older")]
        assert {name: value for name, value in found.items() if name != "older_copies"} == {
            name: value for name, value in alone.items() if name != "older_copies"
        }
    assert audit("combine", *order, "--key", KEY.public.text) == 0
    assert "counted once" in capsys.readouterr().out
    assert audit("diff", *order) == 0


def test_combine_checks_signatures(forks: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    other = SigningKey.generate()
    assert audit("combine", forks[0]) == 2
    assert "--trust-run-key" in capsys.readouterr().err
    assert audit("combine", forks[0], "--key", other.public.text) == 4
    second = audited_run(tmp_path / "second", epsilon=1.0, key=other)
    assert audit("combine", forks[0], second, "--key", KEY.public.text) == 4
    assert "not signed by the key" in capsys.readouterr().err
    assert audit("combine", forks[0], second, "--key", KEY.public.text, "--key", other.public.text) == 0
    assert audit("combine", forks[0], second, "--trust-run-key") == 0
    ledger = forks[0] / LEDGER
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:2]))
    assert audit("combine", forks[0], "--key", KEY.public.text) == 4
    assert "records were cut off" in capsys.readouterr().err


def test_where_two_ledgers_part() -> None:
    assert parted(["0", "a", "b"], ["0", "a", "b", "c"]) is None
    assert parted(["0"], ["0", "a"]) is None
    assert parted(["0", "a", "b"], ["0", "x", "y", "z"]) == 0
    assert parted(["0", "a", "b", "c"], ["0", "a", "y"]) == 1
