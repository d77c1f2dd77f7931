"""One option for the folder of datasets, the same in every command, and one rule for the variable behind it."""

from pathlib import Path

import click
import pytest
import typer

from fedrec.cli import app
from fedrec.data.folder import VARIABLE, data_folder


def commands(command: click.Command, name: str = "fedrec") -> list[tuple[str, click.Command]]:
    """Every command of the command line, by its whole name."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    found = {each: command.get_command(context, each) for each in command.list_commands(context)}
    return [pair for each, child in found.items() if child for pair in commands(child, f"{name} {each}")]


def test_the_option_is_the_same_in_every_command() -> None:
    options = {
        name: option
        for name, command in commands(typer.main.get_command(app))
        for option in command.params
        if option.name == "data_dir"
    }
    assert len(options) >= 10
    assert {str(option.opts) for option in options.values()} == {"['--data-dir']"}
    assert {option.envvar for option in options.values()} == {VARIABLE}
    assert len({option.help for option in options.values()}) == 1


def test_a_folder_that_is_given_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/variable")
    assert data_folder("given") == data_folder(Path("given")) == Path("given")
    assert data_folder(None) == data_folder("") == Path("/variable")
    assert data_folder("~/data") == Path.home() / "data"
    monkeypatch.delenv(VARIABLE)
    assert data_folder(None) is None
