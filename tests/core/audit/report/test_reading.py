"""`fedrec audit show`, `report`, `diff` and the published schema."""

import json
from pathlib import Path

import jsonschema
import pytest

from fedrec import cli
from fedrec.audit.evidence.received_run import export
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.report.html import page
from fedrec.audit.statement.received import receive
from fedrec.audit.statement.schema import schema
from fedrec.errors import InputError, VerificationError
from tests.core.audit.audited_run import HOSTILE, audited_run, edit
from tests.core.audit.report.test_report import KINDS

PUBLISHED = Path(__file__).parents[4] / "fedrec/audit/statement/statement.schema.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return audited_run(tmp_path_factory.mktemp("run"), epsilon=2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_statement_fits_the_published_schema(kind: str, tmp_path: Path) -> None:
    audited_run(tmp_path, **KINDS[kind])
    stated = json.loads((tmp_path / "privacy/statement.json").read_text())
    published = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.Draft202012Validator(published).validate(stated)
    for broken in (stated | {"more": 1}, stated | {"version": 2}, stated | {"epsilon": "small"}):
        assert not jsonschema.Draft202012Validator(published).is_valid(broken)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema(), "python -m fedrec.audit.statement.schema writes it"


@pytest.mark.parametrize("place", ["", "privacy", "privacy/statement.json"])
def test_show_is_one_screen(run: Path, place: str, capsys) -> None:
    assert cli.run(["audit", "show", str(run / place)]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 40
    for part in ("no bound", "popularity", "fedrec audit verify", "rest on somebody's word"):
        assert part in shown


def test_an_exported_file_is_read_like_a_folder(run: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "run.zip"
    file.write_bytes(export(run))
    assert cli.run(["audit", "show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []
    assert cli.run(["audit", "report", str(file)]) == 0
    assert "agrees with the statement" in (tmp_path / "run.zip.html").read_text()


def test_show_as_json(run: Path, capsys) -> None:
    assert cli.run(["audit", "show", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["faults"] == []
    assert told["statement"]["version"] == 3
    assert told["ledger"]["entries"] == 6


def test_show_prints_names_as_they_are(tmp_path: Path, capsys) -> None:
    audited_run(tmp_path, name=HOSTILE, epsilon=1.0)
    assert cli.run(["audit", "show", str(tmp_path)]) == 0
    assert "[bold]" in "".join(capsys.readouterr().out.split())


def test_report_is_written_where_it_is_asked_for(run: Path, tmp_path: Path, capsys) -> None:
    assert cli.run(["audit", "report", str(run)]) == 0
    beside = run.with_name(f"{run.name}.html")
    assert beside.read_text().startswith("<!doctype html>")
    assert cli.run(["audit", "report", str(run), "-o", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == beside.read_bytes()
    beside.unlink()
    assert str(tmp_path / "a.html") in capsys.readouterr().out
    assert cli.run(["audit", "report", str(run), "-o", str(tmp_path / "no/a.html")]) == 2


LIES = {
    "headline": {"epsilon": "1.0000"},
    "guess": {"best_guess": "0.5100"},
    "curve": {"curve": {"mu": "0.100000", "bounds": []}, "best_guess": "0.5200"},
    "budget": {"budget": []},
    "path": {"spent": []},
    "epsilon": {"accountants": {"pld": "1.0000", "rdp": "1.1000"}},
    "unbounded": {"accountants": {"pld": None, "rdp": None}},
    "delta": {"delta": "1e-09"},
    "rounds": {"rounds": 3},
    "releases": {"releases": []},
    "ledger": {"ledger": {"entries": 6, "head": "00" * 32, "signed": True}},
    "longer": {"ledger": {"entries": 9, "head": "00" * 32, "signed": True}},
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("command", ["show", "report"])
def test_a_statement_that_does_not_follow_from_the_ledger_is_exit_code_4(
    command: str, lie: str, tmp_path: Path, capsys
) -> None:
    edit(audited_run(tmp_path, epsilon=2.0), **LIES[lie])
    assert cli.run(["audit", command, str(tmp_path)]) == 4
    captured = capsys.readouterr()
    assert "statement and ledger do not agree" in captured.err
    assert captured.out, "what the ledger gives is shown all the same"
    if command == "show":
        assert captured.out.startswith("CONTRADICTION: privacy/statement.json: '")
        assert f"'{next(iter(LIES[lie]))}" in captured.out


def test_records_after_the_statement_are_no_contradiction(tmp_path: Path) -> None:
    assert receive(audited_run(tmp_path, epsilon=1.0, records=[{"type": "attack", "name": "a"}])).faults == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing, though the run is finished"),
        ("{", "is no statement (Expecting"),
        ("[]", "is no statement (not an object)"),
        ('{"version": 1}', "'schema' is missing"),
        ("[" * 100_000, "is no statement (nested too deep)"),
        ('{"epsilon": 1, "epsilon": 2}', "a field occurs twice"),
    ],
)
def test_what_is_no_statement_is_a_fault_and_the_ledger_is_shown(
    content: str | None, message: str, tmp_path: Path, capsys
) -> None:
    audited_run(tmp_path, epsilon=1.0)
    file = tmp_path / "privacy/statement.json"
    file.unlink() if content is None else file.write_text(content)
    assert cli.run(["audit", "show", str(tmp_path)]) == 4
    captured = capsys.readouterr()
    shown = " ".join(captured.out.split())
    assert shown.startswith("CONTRADICTION: privacy/statement.json")
    assert message in shown
    assert "1.0000 of 1.0" in shown
    assert "statement and ledger do not agree" in captured.err


def test_a_run_that_goes_on_needs_no_statement(tmp_path: Path) -> None:
    audited_run(tmp_path, epsilon=1.0, key=SigningKey.generate())
    ledger = tmp_path / "privacy/ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:3]))
    for name in ("statement.json", "statement.md"):
        (tmp_path / "privacy" / name).unlink()
    found = receive(tmp_path)
    assert found.faults == ()
    assert found.statement.rounds == 2
    assert "no statement beside it" in page(found)


@pytest.mark.parametrize("change", [{"queries": None}, {"epsilon": {}}, {"events": [{"noise_multiplier": "0"}]}])
def test_a_charge_that_is_none_is_refused(change, tmp_path: Path) -> None:
    record = {"type": "charge", "round": 0, "queries": [], "sampling": "1.0", "epsilon": {"pld": "1", "rdp": "1"}}
    with pytest.raises(VerificationError, match="record 6 is no charge record"):
        receive(audited_run(tmp_path, epsilon=1.0, records=[record | change]))


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such run"):
        receive(tmp_path / "nowhere")


def test_diff_tells_what_differs_and_who_promises_less(run: Path, tmp_path: Path, capsys) -> None:
    other = audited_run(tmp_path, epsilon=1.0, sampling=0.5)
    assert cli.run(["audit", "diff", str(run), str(other), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    differs = {row["what"]: (row["a"], row["b"]) for row in told["differs"]}
    assert differs["cap on epsilon"] == ("2.0", "1.0")
    assert differs["query weights: sampling"] == ("1.0", "0.5")
    assert any(what.startswith("assumption: the server keeps secret") for what in differs)
    assert "unit" in {row["what"] for row in told["same"]}
    assert told["verdict"].startswith("B promises more, against model recipients")
    assert cli.run(["audit", "diff", str(run), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "cap on epsilon" in shown
    assert "adjacency" not in shown


def test_a_run_does_not_differ_from_itself(run: Path, capsys) -> None:
    assert cli.run(["audit", "diff", str(run), str(run)]) == 0
    assert "both promise the same epsilon" in capsys.readouterr().out


def test_other_deltas_are_not_ranked(run: Path, tmp_path: Path, capsys) -> None:
    other = audited_run(tmp_path, epsilon=1.0, delta=1e-6)
    assert cli.run(["audit", "diff", str(run), str(other), "--all"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "cannot be ranked by epsilon: delta is 1e-05 in A, 1e-06 in B" in shown
    assert "adjacency" in shown


@pytest.mark.parametrize("command", ["show", "report", "diff"])
def test_help_teaches(command: str, capsys) -> None:
    assert cli.run(["audit", command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"fedrec audit {command} " in shown
    assert len(shown.splitlines()) > 12
