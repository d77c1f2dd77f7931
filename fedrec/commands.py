"""Command groups that find their subcommands by an entry-point group, so that any installed package can bring one.

A subcommand is a typer app or a plain function that typer can read. It is imported only when it is called or listed,
and must import what is heavy inside its function.
"""

from importlib.metadata import entry_points
from typing import ClassVar

import click
import typer
from typer.core import TyperGroup

from fedrec.errors import nearest


class Commands(TyperGroup):
    """A click group whose commands are the entry points of `entry_group`, loaded one by one."""

    entry_group: ClassVar[str] = "fedrec.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(
            {entry.name for entry in entry_points(group=self.entry_group)}, key=lambda name: (name != "simulate", name)
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=self.entry_group, name=cmd_name):
            found = entry.load()
            if not isinstance(found, typer.Typer):
                app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
                app.command(name=cmd_name)(found)
                found = app
            command = typer.main.get_command(found)
            command.name = cmd_name
            return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise click.UsageError(f"unknown command '{args[0]}'.{nearest(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)
