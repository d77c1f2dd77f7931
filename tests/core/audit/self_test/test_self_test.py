"""`fedrec audit self-test`: it refuses every attack here, and it says so where a defence is missing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedrec.audit.evidence.received_run import STATEMENT
from fedrec.audit.self_test import command, damages, forgeries, histories, links
from fedrec.audit.self_test.attack import Attack
from fedrec.audit.self_test.stage import Answer, Commands, Stage, harmless, refused
from fedrec.cli import run as fedrec

QUICK = {
    "'epsilon' edited": forgeries,
    "shell command offered on the page": forgeries,
    "page edited": forgeries,
    "a charge signed by another key": forgeries,
    "epsilon halved": forgeries,
    "an attacker's curve too good": forgeries,
    "a scenario with another epsilon in `combine`": forgeries,
    "unpacks to hundreds of megabytes": damages,
    "a trillion rounds, `verify`": damages,
    "`report` writes through a link": links,
    "a pipe that never ends in the place of the statement": links,
    "a scenario's name that clears the screen, `show`": links,
    "to an older state than the own key has signed": histories,
    "two pasts of one run in `combine`": histories,
    "of a round, with a byte changed": histories,
}
"""One attack of each kind."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Iterator[Stage]:
    made = command.prepared(tmp_path_factory.mktemp("stage"))
    yield made
    made.commands.close()


@pytest.fixture(scope="module")
def everything(stage: Stage) -> dict[str, Attack]:
    statement = json.loads((stage.plain / "release" / STATEMENT).read_text())
    return {attack.name: attack for attack in command.attacks(statement, 0)}


@pytest.mark.parametrize("name", QUICK)
def test_an_attack_of_each_kind_is_refused(name: str, stage: Stage, everything: dict[str, Attack]) -> None:
    assert everything[name].play(stage) is None


def test_the_genuine_runs_verify_first(stage: Stage) -> None:
    assert [one.instead for one in command.play(stage, [])] == [None, None]


class Blind(Commands):
    """An auditor who finds nothing wrong: every command answers as with the genuine run."""

    def run(self, *arguments: Any, settings: Any = None) -> Answer:
        return Answer(0, "", 0.1, 100.0)


@pytest.mark.parametrize("name", ["'epsilon' edited", "page edited", "epsilon halved", "a trillion rounds, `show`"])
def test_a_missing_defence_is_told(name: str, stage: Stage, everything: dict[str, Attack], tmp_path: Path) -> None:
    blind = Stage(Blind({}), tmp_path, stage.plain, stage.sampled, stage.key, stage.home)
    assert everything[name].play(blind) == "exit code 0"


def test_what_no_command_may_do() -> None:
    assert refused(Answer(4, "error: no\n", 0.1, 100.0)) is None
    assert refused(Answer(2, "error: no\n", 0.1, 100.0)) == "exit code 2"
    assert "a traceback: KeyError" in (refused(Answer(4, "Traceback (most recent call last)\nKeyError", 0, 0)) or "")
    assert refused(Answer(4, "\x1b[2J", 0.1, 100.0)) == "control characters reached the terminal"
    assert refused(Answer(4, "", 11.0, 100.0)) == "11 s of CPU"
    assert refused(Answer(4, "", 1.0, 3000.0)) == "3,000 MB of memory"
    assert refused(Answer(None, "no end after 60 s", 0, 0)) == "no end after 60 s"
    assert harmless(Answer(1, "", 0, 0)) == "exit code 1"
    assert harmless(Answer(0, "secret", 0, 0), ("secret",)) == "'secret' was shown"


def test_a_command_does_not_answer_for_the_memory_of_its_parent() -> None:
    program = (
        "import subprocess, sys; hoard = bytearray(b'x') * (400 << 20); "
        "sys.exit(subprocess.call([sys.executable, '-c', "
        "'from fedrec.audit.self_test.stage import peak_megabytes as peak; print(peak())']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 300


def test_every_field_of_the_statement_is_attacked(stage: Stage, everything: dict[str, Attack]) -> None:
    statement = json.loads((stage.plain / "release" / STATEMENT).read_text())
    assert {f"'{field}' edited" for field in statement} <= set(everything)
    assert len(everything) > 120


def test_the_command_fails_when_an_attack_is_not_refused(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(command, "attacks", lambda *_: iter([Attack("link", "played", lambda _: "it was believed")]))
    assert fedrec(["audit", "self-test", "--json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out)["not_refused"] == [{"kind": "link", "name": "played", "instead": "it was believed"}]
    assert "1 of 3 attacks were NOT refused" in captured.err
    monkeypatch.setattr(command, "attacks", lambda *_: iter([Attack("link", "played", lambda _: None)]))
    assert fedrec(["audit", "self-test", "--all", "--quiet"]) == 0
    assert "all 3 attacks were refused" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_self_test_passes(capsys) -> None:
    assert fedrec(["audit", "self-test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] is True
