"""Text from other sources never controls the terminal, for every command that prints it."""

import io
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from fedrec.audit.evidence.received_run import PUBLIC_KEY
from fedrec.audit.log import envelope, proofs
from fedrec.audit.log.chain import read
from fedrec.audit.log.checkpoint import Checkpoint, parsed
from fedrec.cli import run as fedrec
from fedrec.errors import FedrecError, InputError, VerificationError
from fedrec.plain_text import LONGEST, plain, plain_lines
from fedrec.screen import plain_console, say, write
from tests.core.audit import ledgers
from tests.core.audit.audited_run import audited_run

TITLE = "\x1b]0;owned\x07\x1b[2J\x9b1mverified\r\nrun \u202egood\u2066\u200b [red]x[/nope] \udc80"


def acts(text: str) -> list[str]:
    """Characters that a terminal acts on, or that hide what is there."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [character for character in text if unicodedata.category(character) in kinds and character != "\n"]


@given(st.text(st.characters(codec=None)))
def test_nothing_acts_in_plain_text(text: str) -> None:
    found = plain(text)
    assert acts(found) == []
    assert "\n" not in found
    found.encode()
    assert plain(found) == found
    assert acts(plain_lines(text)) == []
    assert plain_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize("text", ["Zurich \u00fc \u65e5\u672c 5\u00a0% \u2192 \U0001f600", "", "a b"])
def test_ordinary_text_stays(text: str) -> None:
    assert plain(text) == text


def test_a_long_field_does_not_fill_the_screen() -> None:
    assert len(plain("\x1b" * 10**6)) < 4 * LONGEST + 100
    assert "characters left out" in plain("a" * 10**6)


@pytest.mark.parametrize("kind", [FedrecError, InputError, VerificationError])
def test_an_error_is_one_plain_line_wherever_it_is_written(kind: type[FedrecError]) -> None:
    assert acts(str(kind(f"FILE: {TITLE}\nerror: all is well"))) == []
    assert "\n" not in str(kind(f"FILE: {TITLE}\nerror: all is well"))


def test_lines_and_tables(capsys: Any) -> None:
    say(TITLE)
    say(TITLE, err=True)
    write(json.dumps({"name": TITLE}, ensure_ascii=False) + "\n")
    table = Table(TITLE, title=TITLE)
    table.add_row(TITLE)
    screen = plain_console(file=io.StringIO(), width=400)
    screen.print(table, TITLE, {"name": TITLE})
    told = capsys.readouterr()
    for text in (told.out, told.err, screen.file.getvalue()):  # type: ignore[attr-defined]
        assert "[red]x[/nope]" in text
        assert acts(text) == []
    assert told.err.count("\n") == 1


def test_a_command_line_error_is_plain(capsys: Any) -> None:
    for arguments in (["audit", "verify", f"no{TITLE.replace(chr(0xDC80), '')}"], ["audit", f"nope{TITLE}"]):
        assert fedrec(arguments) == 2
        told = capsys.readouterr()
        assert acts(told.out + told.err) == []


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run whose holder signs terminal escapes into every text."""
    title = TITLE.replace("\udc80", "")
    return audited_run(
        tmp_path / "run",
        name=title,
        begin={"dataset": title, "algorithm": title, "notes": [title], "population": title},
        records=[{"type": "attack", "name": title, "about": title}],
    )


def test_a_hostile_run_is_read_in_plain_text(hostile: Path, tmp_path: Path, capsys: Any) -> None:
    other = audited_run(tmp_path / "other")
    for command in (
        ["show", hostile],
        ["diff", hostile, other],
        ["verify", hostile, "--trust-run-key"],
        ["report", hostile],
    ):
        assert fedrec(["audit", *map(str, command)]) in (0, 2, 4)
        told = capsys.readouterr()
        assert acts(told.out + told.err) == [], command


def test_verify_prints_faults_in_plain_text(tmp_path: Path, capsys: Any) -> None:
    title = TITLE.replace("\udc80", "")

    def change(payloads: list[dict[str, Any]]) -> None:
        payloads[1]["queries"][0]["name"] = title
        payloads[1]["delta"] = title
        payloads[4]["files"][title] = title

    found = ledgers.forged(ledgers.payloads_of(ledgers.plan_of()), change)
    for name, content in found.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    assert (tmp_path / PUBLIC_KEY).is_file()
    assert fedrec(["audit", "verify", str(tmp_path), "--trust-run-key"]) == 4
    told = capsys.readouterr()
    assert "FAULT" in told.out
    assert acts(told.out + told.err) == []


def test_a_proof_is_printed_in_plain_text(tmp_path: Path, capsys: Any) -> None:
    title = TITLE.replace("\udc80", "")
    lines = ledgers.lines_of([{"type": title, "what": title}])
    chain = read(b"".join(line + b"\n" for line in lines))
    sealed = ledgers.sealed(lines).cosigned("good\x1b[2J\u202e", ledgers.KEY, 1)
    (tmp_path / "one.proof").write_text(proofs.of_record(chain, sealed, 0), encoding="utf-8", newline="")
    assert fedrec(["audit", "check-proof", str(tmp_path / "one.proof"), "--key", ledgers.KEY.public.text]) == 0
    told = capsys.readouterr()
    assert "carries a cosignature of good\\x1b[2J\\u202e" in told.out
    assert acts(told.out + told.err) == []


@pytest.mark.parametrize("run", ["", "a b", "../x", "a" * 65, "a\x1b[2J", "\u0661", "a\u202eb", "a.b"])
def test_a_run_id_is_a_short_word(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        parsed(Checkpoint(run, 1, bytes(32)).signed(ledgers.KEY).note)
    monkeypatch.setattr(ledgers, "RUN", run)
    (line,) = ledgers.lines_of([{"type": "note"}])
    with pytest.raises(ValueError, match="no record of a ledger"):
        envelope.parsed(line)


def test_a_terminal_without_unicode_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"))
    monkeypatch.setattr(sys, "argv", ["fedrec", "--version"])
    from fedrec.cli import main

    with pytest.raises(SystemExit):
        main()
    say("Zürich")  # does not raise
