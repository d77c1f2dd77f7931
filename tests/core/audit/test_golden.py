"""Golden files: ledgers with every type of record, and all that readers get of them, byte for byte."""

import shutil
from pathlib import Path

import pytest

from fedrec.audit.evidence.layout import listing
from fedrec.audit.evidence.received_run import LEDGER
from fedrec.audit.log.chain import read
from tests.core.audit.golden_runs import FIXTURES, KINDS, pinned, texts, write

TYPES = {
    "stopped": ["begin", "charge", "charge", "note", "stopped", "charge", "charge", "end", "files", "attack", "key"],
    "sampled": ["begin", "charge", "charge", "note", "charge", "charge", "end", "files"],
    "open": ["begin", "charge", "charge", "note", "charge", "charge", "end", "files"],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, in which a run's folder is called `run`; sentences are compared, too."""
    pinned(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return Path("run")


@pytest.mark.parametrize("kind", KINDS)
def test_readers_get_the_same_text_of_a_golden_ledger(kind: str, run: Path) -> None:
    shutil.copytree(FIXTURES / kind / "run", run)
    (run / "private/salt").chmod(0o600)
    records = read((run / "release" / LEDGER).read_bytes()).records
    assert [record.payload["type"] for record in records] == TYPES[kind]
    found = texts(run)
    kept = {file.name for file in (FIXTURES / kind).iterdir() if file.is_file()}
    assert kept == set(found)
    for name, text in found.items():
        assert text == (FIXTURES / kind / name).read_text(), name


@pytest.mark.parametrize("kind", KINDS)
def test_writers_write_the_same_bytes_as_the_golden_run(kind: str, run: Path) -> None:
    write(kind, run)
    golden = FIXTURES / kind / "run"
    assert listing(run) == listing(golden)
    for name in listing(golden):
        assert (run / name).read_bytes() == (golden / name).read_bytes(), name
