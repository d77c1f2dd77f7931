"""`fedrec audit`: what somebody who trusts nobody can do with the record of a run.

Subcommands are found by the entry-point group "fedrec.audit.commands": attacks need the simulation, which the core
does not know.
"""

from typing import ClassVar

import typer

from fedrec.commands import Commands


class AuditCommands(Commands):
    """The subcommands of `fedrec audit`."""

    entry_group: ClassVar[str] = "fedrec.audit.commands"


audit = typer.Typer(cls=AuditCommands, add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")


@audit.callback()
def _audit() -> None:
    """Check a run's privacy budget without trusting whoever ran it."""
