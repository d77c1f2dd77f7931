"""`fedrec audit combine`: the total cost of several runs for the same people."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.errors import InputError
from fedrec.plain_text import plain
from fedrec.screen import plain_console

if TYPE_CHECKING:
    from fedrec.audit.verify.combine import Combined, Rounds


def combine(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or exported files.")],
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="A public key that began ledgers among these. Repeatable."),
    ] = None,
    trust_run_key: Annotated[
        bool,
        typer.Option("--trust-run-key", help="Take the key next to each ledger: shows damage, not who wrote it."),
    ] = False,
    delta: Annotated[
        float | None, typer.Option(help="Delta of the composed numbers; the largest of the runs' if left out.")
    ] = None,
    disjoint: Annotated[
        bool,
        typer.Option(
            "--disjoint",
            help="No person is in two populations: each person pays for one population alone. You must guarantee "
            "it; no command can check it.",
        ),
    ] = False,
    same_people: Annotated[
        bool, typer.Option("--same-people", help="Add up all runs, even if they name different populations.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Compute the epsilon of several runs over the same people, each number with its assumption.

    Budgets of runs over the same people add up. If a later run was chosen after a look at the releases of an earlier
    one, composing all events afterwards proves nothing. Then take the sum of the targets, or let the runs draw from
    one budget (`fedrec audit budget --help`), whose cap is proven.

    Every epsilon is rounded up. Signatures, chain and checkpoint of each ledger are checked; two ledgers of one run
    that contradict each other are refused (exit code 4), and an older copy of a run is counted once.

    Examples:

    - `fedrec audit combine runs/monday runs/tuesday --key ed25519:...`

    - `fedrec audit combine runs/* --trust-run-key --delta 1e-6 --json` - your own runs

    - `fedrec audit combine runs/spain runs/japan --key spain.pub --key japan.pub --disjoint`
    """
    from fedrec.audit.log import keys
    from fedrec.audit.verify.combine import combine as combined
    from fedrec.audit.verify.combined_run import Run

    if bool(key) == trust_run_key:
        raise InputError(
            "combine: needs a key; give --key PUB (from its owner, not from the run), or --trust-run-key for your own"
        )
    public = [keys.public_key(each) for each in key] if key else None
    found = combined([Run.read(run, public) for run in runs], delta, disjoint=disjoint, same_people=same_people)
    if as_json:
        json.dump(found.facts(), sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        _show(found)


def _show(found: "Combined") -> None:
    from rich.table import Table

    console = plain_console(soft_wrap=True)
    table = Table("run", "population", "own target", "delta", "rounds of a person", "budget", box=None, pad_edge=False)
    for run in found.runs:
        table.add_row(
            plain(run.run),
            plain(run.population or "?"),
            run.target_epsilon or "no bound",
            run.delta or "none",
            _rounds(run.participation),
            plain(run.budget or "-"),
        )
    console.print(table)
    for path in found.older_copies:
        console.print(f"{plain(path)}: an older copy of a run above, counted once")
    console.print(f"\nTogether, for one person ({_rounds(found.participation)} rounds):")
    fixed, basic, filters, delta = found.fixed_ahead, found.basic, found.filters, found.delta
    numbers = {
        "fixed_ahead": f"{_bound(fixed.pld)} (PLD), {_bound(fixed.rdp)} (RDP) at delta {delta}",
        "basic": f"{_bound(basic.epsilon)} at delta {basic.delta} (the targets added)",
        "filters": f"{_bound(filters.gdp)} (gdp), {_bound(filters.renyi)} (renyi) at delta {delta}",
        "knows_the_cohort": f"{_bound(found.knows_the_cohort)} at delta {delta}",
    }
    if (shared := found.shared_budget) is not None:
        numbers["shared_budget"] = (
            f"{plain(shared.epsilon)} at delta {plain(shared.delta)} (cap of budget '{plain(shared.name)}', "
            f"{plain(shared.theorem)})"
        )
    for name, number in numbers.items():
        console.print(f"  epsilon {number}\n      needs: {found.assumptions[name]}")
    if "disjoint" in found.assumptions:
        console.print(f"All this holds as long as {found.assumptions['disjoint']}.")
    if found.noise_follows_from_a_seed:
        console.print("The noise of some run follows from its seed: anyone who knows the seed can take it off.")


def _bound(epsilon: str | None) -> str:
    return epsilon or "without bound"


def _rounds(participation: "Rounds") -> str:
    expected, most = participation.expected_rounds, participation.most_rounds
    return f"{most}" if expected == most else f"{expected:g} expected, {most} at most"
