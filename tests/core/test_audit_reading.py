"""`fedrec audit show`, `report`, `diff` and the published schema."""

import json
from io import StringIO
from pathlib import Path
from random import Random

import jsonschema
import pytest
from rich.console import Console

from fedrec import cli
from fedrec.audit.difference import difference
from fedrec.audit.evidence import export
from fedrec.audit.received import receive
from fedrec.audit.report import page
from fedrec.audit.statement_schema import schema
from fedrec.audit.summary import print_summary
from fedrec.errors import InputError, VerificationError
from tests.core.audited_run import HOSTILE, audited_run, edit
from tests.core.test_report import KINDS

PUBLISHED = Path(__file__).parents[2] / "fedrec/audit/statement.schema.json"


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
    for broken in (stated | {"more": 1}, stated | {"version": 1}, stated | {"epsilon": "small"}):
        assert not jsonschema.Draft202012Validator(published).is_valid(broken)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema(), "python -m fedrec.audit.statement_schema writes it"


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
    assert told["statement"]["version"] == 2
    assert told["ledger"]["entries"] == 4


def test_show_prints_names_as_they_are(tmp_path: Path, capsys) -> None:
    audited_run(tmp_path, name=HOSTILE, epsilon=1.0)
    assert cli.run(["audit", "show", str(tmp_path)]) == 0
    assert "[bold]" in "".join(capsys.readouterr().out.split())


def test_report_is_written_where_it_is_asked_for(run: Path, tmp_path: Path, capsys) -> None:
    assert cli.run(["audit", "report", str(run)]) == 0
    assert (run / "privacy/report.html").read_text().startswith("<!doctype html>")
    assert cli.run(["audit", "report", str(run), "-o", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (run / "privacy/report.html").read_bytes()
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
    "ledger": {"ledger": {"entries": 4, "head": "00" * 32, "signed": False}},
    "longer": {"ledger": {"entries": 9, "head": "00" * 32, "signed": False}},
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
    assert captured.out, "what there is to read is shown all the same"


def test_an_epsilon_that_the_noise_cannot_give_is_found(tmp_path: Path) -> None:
    run = audited_run(tmp_path, epsilon=2.0, sampling=0.3)
    assert receive(run).faults == []
    stated = json.loads((run / "privacy/statement.json").read_text())
    (row,) = (row for row in stated["adversaries"] if row["adversary"] == "knows_the_cohort")
    row["epsilon"] = f"{0.95 * float(row['epsilon']):.4f}"
    edit(run, adversaries=stated["adversaries"])
    assert [fault for fault in receive(run).faults if "who knows the cohort needs delta" in fault]


def test_records_after_the_statement_are_no_contradiction(tmp_path: Path) -> None:
    assert receive(audited_run(tmp_path, epsilon=1.0, records=[{"type": "attack", "name": "a"}])).faults == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no privacy/"),
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('{"version": 1}', "version 2"),
    ],
)
def test_what_is_no_statement_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    audited_run(tmp_path, epsilon=1.0)
    file = tmp_path / "privacy/statement.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(InputError, match=message):
        receive(tmp_path)


def leaves(value, path=()):
    """The paths of all values that hold no others, the first of each list alone."""
    parts = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    found = [leaf for key, part in parts for leaf in leaves(part, (*path, key))]
    return found or [path]


def test_whatever_a_statement_says_it_is_read_or_refused(run: Path) -> None:
    file = run / "privacy/statement.json"
    honest = file.read_text()
    random = Random(0)
    cases = [
        (path, junk) for path in leaves(json.loads(honest)) for junk in ("0", "9" * 39, "1e99", "", None, 0, -1, 2.5)
    ]
    refused = 0
    for path, junk in random.sample(cases, 100):
        value = json.loads(honest)
        place = value
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = junk
        file.write_text(json.dumps(value))
        try:
            received = receive(run)
        except InputError:
            refused += 1
            continue
        page(received)
        print_summary(received, Console(file=StringIO()))
        difference(received, received)
    file.write_text(honest)
    assert 20 < refused < 95


@pytest.mark.parametrize("change", [{"queries": None}, {"epsilon": {}}, {"events": [{"noise_multiplier": "0"}]}])
def test_a_charge_that_is_none_is_refused(change, tmp_path: Path) -> None:
    record = {"type": "charge", "round": 0, "queries": [], "sampling": "1.0", "epsilon": {"pld": "1", "rdp": "1"}}
    with pytest.raises(VerificationError, match="record 4 is no charge"):
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
