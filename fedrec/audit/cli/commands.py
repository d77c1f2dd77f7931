"""`fedrec audit`: checks of a run's record that need no trust in its operator.

Subcommands are entry points of the group "fedrec.audit.commands". Attacks need the simulation, which the core does not
import.
"""

import struct
import traceback
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import click
import typer

from fedrec.commands import Commands
from fedrec.errors import VerificationError

READING = frozenset(
    {
        "verify",
        "show",
        "report",
        "diff",
        "export",
        "prove",
        "check-proof",
        "witness",
        "combine",
        "budget",
        "keys",
        "card",
        "forget",
    }
)
"""The subcommands that read files of others."""
DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
"""Exceptions that unexpected content can raise."""


class AuditCommands(Commands):
    """The subcommands of `fedrec audit`.

    Content is checked where it is read, and every fault has its own message. This class is the last line behind those
    checks: any other exception also ends in one line and exit code 4, since unreadable content is not verified.
    """

    entry_group: ClassVar[str] = "fedrec.audit.commands"

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DAMAGE as error:
            if ctx.invoked_subcommand not in READING:
                raise
            raise unexpected(error) from error


def unexpected(error: Exception) -> VerificationError:
    """Return the fault line of content that no check expected: the exception and its place."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return VerificationError(
        f"what was received is not as any run writes it ({type(error).__name__} at {Path(last.filename).name}:"
        f"{last.lineno}): it does not verify; please report this, each fault should have a message of its own"
    )


audit = typer.Typer(cls=AuditCommands, add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")


@audit.callback()
def _audit() -> None:
    """Check a run's privacy budget without trusting its operator."""
