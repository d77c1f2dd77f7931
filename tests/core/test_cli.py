"""The `fedrec` command: it finds its subcommands, answers at once, and every error is one line with its exit code."""

import errno
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import click
import pytest
import typer

from fedrec import __version__, cli, commands, plugins
from fedrec.errors import BudgetExhausted, InputError, VerificationError


def test_help_teaches_and_lists_every_command(capsys: Any) -> None:
    for arguments in ([], ["--help"]):
        assert cli.run(arguments) == 0
        shown = capsys.readouterr().out
        for part in ("simulate", "bench", "data", "Exit codes", "privacy.epsilon=3"):
            assert part in shown


@pytest.mark.parametrize("command", ["simulate", "bench", "data"])
def test_every_command_explains_itself(command: str, capsys: Any) -> None:
    assert cli.run([command, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 8


def test_version(capsys: Any) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"fedrec {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from fedrec.cli import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'opacus', 'matplotlib', 'scipy', 'ray', 'flwr'} & sys.modules.keys(); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_names_the_nearest(capsys: Any) -> None:
    assert cli.run(["simulat"]) == 2
    assert capsys.readouterr().err == (
        "error: unknown command 'simulat'. Did you mean 'simulate'? (see `fedrec --help`)\n"
    )


def test_an_unknown_option_is_one_line(capsys: Any) -> None:
    assert cli.run(["--verbos"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def plugin(monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    class Loaded(EntryPoint):
        def load(self) -> Any:
            return command

    entry = Loaded("extra", "nowhere:at_all", commands.Commands.entry_group)
    monkeypatch.setattr(plugins, "_installed", lambda group, path: (plugins.Plugin(entry),))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("file x: bad"), 2),
        (BudgetExhausted("no more"), 3),
        (VerificationError("does not fit"), 4),
        (InputError("two\nlines"), 2),
        (click.ClickException("clicked"), 1),
    ],
)
def test_errors_are_one_line_and_their_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fails() -> None:
        raise error

    plugin(monkeypatch, fails)
    assert cli.run(["extra"]) == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {' '.join(str(error).split())}\n"


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/history.csv")

    plugin(monkeypatch, full)
    assert cli.run(["extra"]) == 2
    assert capsys.readouterr().err == "error: runs/x/history.csv: No space left on device\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    plugin(monkeypatch, broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["extra"])


def test_a_group_of_commands_can_be_brought_by_another_package(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    group = typer.Typer()

    @group.command()
    def one() -> None:
        """The first."""
        print("one ran")

    @group.command()
    def two() -> None:
        """The second."""
        raise typer.Exit(7)

    plugin(monkeypatch, group)
    assert cli.run(["extra", "one"]) == 0
    assert capsys.readouterr().out == "one ran\n"
    assert cli.run(["extra", "two"]) == 7


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    plugin(monkeypatch, stopped)
    assert cli.run(["extra"]) == 130
