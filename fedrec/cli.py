"""The `fedrec` command: it finds its subcommands by the entry-point group "fedrec.commands" and owns the exit codes."""

import difflib
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import click
import typer

from fedrec import __version__
from fedrec.commands import Commands
from fedrec.errors import DISK, FedrecError
from fedrec.extras import missing
from fedrec.screen import say

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"fedrec {__version__}")
        raise typer.Exit


@app.callback()
def fedrec(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Federated recommendation in which a person's history and taste vector never leave their device.

    Devices send only sums that user-level differential privacy protects; every release is charged to a budget and
    written to a ledger before it happens.

    Start here:

    - `fedrec simulate` trains a private recommender on generated data, in about a minute, no download

    - `fedrec simulate --list` shows the built-in scenarios

    - `fedrec simulate ml-1m-dp --set privacy.epsilon=3 --data-dir DATA` changes one setting

    - `fedrec COMMAND --help` explains a command

    Exit codes: 0 done, 2 input that cannot be used (one line says what, where and how to mend it), 3 privacy budget
    exhausted (everything up to there is saved), 4 a verification failed, 5 too few nodes, 130 interrupted.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every expected error becomes one line on standard error."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments) or ["--help"], prog_name="fedrec", standalone_mode=False)
    except FedrecError as error:
        return _fail(str(error), error.exit_code)
    except click.NoSuchOption as error:
        path = error.ctx.command_path if error.ctx else "fedrec"
        return _fail(f"no such option: {error.option_name}{_meant(error)} (see `{path} --help`)", error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "fedrec"
        return _fail(f"{error.format_message().rstrip()} (see `{path} --help`)", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except ModuleNotFoundError as error:
        found = missing(error, _called(command, arguments))
        if found is None:
            raise
        return _fail(str(found), found.exit_code)
    except OSError as error:
        if error.errno not in DISK:
            raise
        return _fail(f"{error.filename or 'writing a file'}: {error.strerror}", 2)
    return code if isinstance(code, int) else 0


def _called(command: click.Command, arguments: Sequence[str]) -> str:
    """Return the words of a command line that name its command."""
    words: list[str] = []
    for word in arguments:
        found = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if found is None:
            break
        words.append(word)
        command = found
    return " ".join(words)


def _meant(error: click.NoSuchOption) -> str:
    """A hint for an unknown option: the setting of that name where the command has `--set`, or the nearest option."""
    if error.ctx is None:
        return ""
    options = {option: parameter for parameter in error.ctx.command.params for option in parameter.opts}
    wanted = error.option_name.lstrip("-").replace("-", "_")
    if "--set" in options:
        names = [found.value for found in options["--set"].shell_complete(error.ctx, "")]
        same = [name for name in names if wanted in (name, name.rpartition(".")[2])]
        if same:
            return f"; it is a setting: --set {' or --set '.join(f'{name}=...' for name in same[:3])}"
    close = difflib.get_close_matches(error.option_name.lstrip("-"), [name.lstrip("-") for name in options], n=1)
    return f". Did you mean --{close[0]}?" if close else ""


def _fail(message: str, code: int) -> int:
    say(f"error: {' '.join(message.split())}", err=True)
    return code


def main() -> None:
    """Entry point of the `fedrec` command."""
    # Read when PyTorch is loaded. Threads that spin while they wait cost a hundredfold where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    small = sys.argv[1:2] == ["client"] and sys.argv[2:3] != ["start"]
    if small or "serve" in sys.argv[1:3]:  # also `bench serve`: threads gain nothing there, and take 16 MB each
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has no form for a character gets an escape
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
