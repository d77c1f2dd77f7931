"""`fedrec client policy`, `budget` and `ledger`: what this device agrees to, what it spent, and the record of it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say, write

LEDGER_HELP = "The device ledger, or the node's own folder. [default: ~/.fedrec/client]"

policy_commands = typer.Typer(no_args_is_help=True, help="What this node takes part in, as a file of its operator.")
ledger_commands = typer.Typer(no_args_is_help=True, help="The record of what this device was asked, paid and gave.")

LedgerPath = Annotated[Path | None, typer.Argument(metavar="[LEDGER]", help=LEDGER_HELP)]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="The policy. [default: policy.toml next to the ledger]")
]


@policy_commands.command()
def init(file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")]) -> None:
    """Write a policy with the defaults, each with its explanation."""
    from fedrec_client.consent.files import write_policy
    from fedrec_client.consent.policy import Policy

    write_policy(file, Policy())
    say(f"Wrote {file}; edit it, and start the node with `fedrec client start --policy {file} ...`")


@policy_commands.command()
def show(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The defaults if left out.")] = None,
) -> None:
    """Print all settings of a policy, also those that its file leaves out."""
    from fedrec_client.consent.policy import Policy, load

    write((Policy() if file is None else load(file)).text())


@policy_commands.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Read a policy as the node will: an unknown key or an impossible value is an error."""
    from fedrec_client.consent.policy import load

    found = load(file)
    run, period = found.run_limit, found.period_limit
    say(f"{file}: a policy. A run may cost a user epsilon {run.epsilon:g}, all runs of {found.period.days:g} days")
    say(f"epsilon {period.epsilon:g}, at delta {run.delta:g}. Trust models: {', '.join(found.run.trust) or 'none'}.")


@ledger_commands.command()
def verify(ledger: LedgerPath = None) -> None:
    """Check a ledger's chain of hashes and its counter; exit code 4 where lines were changed or are missing."""
    from fedrec_client.consent.report import verified

    for line in verified(*_places(ledger, None)):
        say(line)


@ledger_commands.command()
def renew(ledger: LedgerPath = None) -> None:
    """Put a damaged ledger aside and begin a new one, in which the present period counts as spent in full."""
    from fedrec_client.consent.files import renewed

    path, _ = _places(ledger, None)
    kept = renewed(path)
    say(f"Began {path} anew; the damaged one is {kept}. Only zeros are contributed until the period has ended.")


def budget(
    ledger: LedgerPath = None,
    policy: PolicyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what this device spent, by run and in the present period, and what is left."""
    from fedrec_client.consent.report import spending

    found = spending(*_places(ledger, policy))
    if as_json:
        write(json.dumps(found.json(), indent=2) + "\n")
        return
    for line in [*found.lines(), *(found.table() if found.runs else ())]:
        say(line)


def _places(ledger: Path | None, policy: Path | None) -> tuple[Path, Path | None]:
    """Return the ledger's file and the policy's; None for the defaults."""
    from fedrec_client.consent.device_ledger import FILE
    from fedrec_client.consent.files import POLICY, default_folder

    path = default_folder() if ledger is None else ledger
    path = path / FILE if path.is_dir() or ledger is None else path
    beside = path.parent / POLICY
    return path, policy or (beside if beside.exists() else None)
