"""Command groups that find their subcommands by an entry-point group, so that any installed package can bring one.

A subcommand is a typer app or a plain function that typer can read. It is imported only when it is called or listed,
and must import what is heavy inside its function.
"""

from typing import Any, ClassVar

import click
import typer
from typer.core import TyperGroup

from fedrec.errors import InputError, nearest
from fedrec.extras import missing
from fedrec.plugins import plugins


class Commands(TyperGroup):
    """A click group whose commands are the entry points of `entry_group`, loaded one by one."""

    entry_group: ClassVar[str] = "fedrec.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(plugins(self.entry_group), key=lambda name: (name != "simulate", name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        plugin = plugins(self.entry_group).get(cmd_name)
        if plugin is None:
            return None
        try:
            return _command(plugin.load(_unusable), cmd_name)
        except InputError as error:
            return _broken(cmd_name, error)
        except ModuleNotFoundError as error:
            lacking = missing(error, " ".join([*ctx.command_path.split()[1:], cmd_name]))
            if lacking is None:
                raise
            return _broken(cmd_name, lacking)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise click.UsageError(f"unknown command '{args[0]}'.{nearest(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


def _command(found: Any, name: str) -> click.Command:
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name=name)(found)
        found = app
    command = typer.main.get_command(found)
    command.name = name
    return command


def _unusable(found: Any, name: str) -> str | None:
    try:
        _command(found, name)
    except Exception as error:  # what typer makes of a stranger's object
        return f"is no typer app and no function that typer can read ({type(error).__name__}: {error})"
    return None


def _broken(name: str, error: InputError) -> click.Command:
    """The command of a package that cannot be used: it shows why, and leaves the other commands as they are."""

    def fails(**_: object) -> None:
        raise error

    ignore = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=fails, help=f"Cannot be used: {error}", context_settings=ignore)
