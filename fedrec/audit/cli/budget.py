"""`fedrec audit budget`: make, show and settle a budget that several runs draw from."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.plain_text import plain
from fedrec.received_files import refuse_links
from fedrec.screen import plain_console, say

budget = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")
File = Annotated[Path, typer.Argument(metavar="FILE", help="The budget file.")]
WIDTH = 40


@budget.callback()
def _budget() -> None:
    """One budget for a population, from which several runs draw.

    A run is admitted only if its whole plan still fits; otherwise it is refused (exit code 3) before anything is
    released. The cap holds for all runs together, even if a later run was planned after seeing the releases of an
    earlier one.

    - `fedrec audit budget new people.json --who customers --epsilon 4 --delta 1e-6 --end 2027-12-31`

    - `fedrec simulate my.toml --set privacy.budget=people.json` draws from it

    - `fedrec audit budget show people.json` shows what is spent, by run, and what still fits
    """


@budget.command()
def new(
    file: File,
    epsilon: Annotated[float, typer.Option(help="The cap: epsilon of all runs together.")],
    delta: Annotated[float, typer.Option(help="Its delta; below 1/users.")],
    who: Annotated[
        str, typer.Option(help="The population, by a name that its runs share; FILE's name if left out.")
    ] = "",
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (UTC).")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (UTC).")] = None,
    filter_: Annotated[
        str,
        typer.Option(
            "--filter",
            help="gdp: exact for full participation, counts no amplification by sampling. renyi: counts it, and "
            "allows about 8 % less epsilon otherwise.",
        ),
    ] = "gdp",
    order: Annotated[
        int | None, typer.Option(help="Order of the renyi filter; the best for full participation if left out.")
    ] = None,
) -> None:
    """Make a budget. Its terms never change afterwards.

    The filter is the rule that admits runs. It must be fixed before the first run, or nothing is proven.
    Caps of different periods add up: a person who takes part in two periods may pay both.
    """  # fmt: skip
    from fedrec.audit.budget.budget_file import create
    from fedrec.privacy.filters import Filter

    rule = Filter.make(filter_, epsilon, delta, order)
    made = create(file, file.stem, who or file.stem, rule, start.date() if start else None, end.date() if end else None)
    say(
        f"Made {file}: epsilon {epsilon:g} at delta {delta:g} for '{made.who}', {made.period()}, by the {rule.name} "
        f"filter ({rule.theorem}). Draw from it with --set privacy.budget={file}. Keep its head: {made.history_hash}"
    )


@budget.command()
def show(
    file: File,
    head: Annotated[
        str | None, typer.Option(help="A head that you kept: the file must follow from it (else exit code 4).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Show what each run spent, and what still fits. Checks the whole file."""
    from fedrec.audit.budget.budget import read
    from fedrec.errors import VerificationError

    found = read(file)
    if head is not None and head not in found.history_hashes:
        raise VerificationError(f"{file}: does not follow from head {head}; it is an older copy or another file")
    told = _told(found)
    if as_json:
        json.dump(told, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        _show(told, found)


@budget.command()
def settle(
    file: File, run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that will not continue.")]
) -> None:
    """Return the part of a stopped run that its ledger never charged. The run cannot continue afterwards."""
    from fedrec.audit.budget.budget import amount, read
    from fedrec.audit.budget.reservation import settle_left
    from fedrec.audit.evidence.layout import Layout

    refuse_links(run)
    entry = settle_left(file, Layout.of(run).release / "privacy" / "ledger.jsonl")
    unit = read(file).filter.unit
    say(
        f"Settled run {entry.run}: it counts {amount(entry.cost)} {unit} of the {amount(entry.reserved_cost)} that it "
        f"had reserved"
    )


def _told(found: Any) -> dict[str, Any]:
    from fedrec.audit.budget.budget import amount, floor

    return {
        "name": found.name,
        "who": found.who,
        "period": found.period(),
        "open": found.is_open(),
        "epsilon": repr(found.filter.epsilon),
        "delta": repr(found.filter.delta),
        "filter": found.filter.name,
        "unit": found.filter.unit,
        "theorem": found.filter.theorem,
        "limit": amount(found.limit, 15),
        "spent": amount(found.spent, 15),
        "fits_epsilon": floor(found.filter.run_epsilon(found.left)),
        "runs": [
            {
                "run": entry.run,
                "when": entry.when,
                "state": entry.state,
                "about": dict(entry.about),
                "reserved": amount(entry.reserved_cost, 15),
                "counted": amount(entry.cost, 15),
            }
            for entry in found.entries.values()
        ],
        "head": found.history_hash,
    }


def _show(told: dict[str, Any], found: Any) -> None:
    from rich.table import Table

    from fedrec.audit.budget.budget import amount

    console = plain_console(soft_wrap=True)
    closed = "" if told["open"] else ", NOT OPEN today"
    console.print(
        f"Budget '{plain(told['name'])}' of '{plain(told['who'])}', {told['period']}{closed}\n"
        f"Cap: epsilon {told['epsilon']} at delta {told['delta']} for all runs together, however they were chosen "
        f"({told['theorem']})"
    )
    spent = found.spent / found.limit
    filled = min(WIDTH, -(-found.spent * WIDTH // found.limit))
    console.print(
        f"{'█' * filled}{'░' * (WIDTH - filled)} {spent:.1%} of {amount(found.limit)} {told['unit']} spent or reserved "
        f"(a sum, not an epsilon)"
    )
    if told["runs"]:
        table = Table("run", "since", "state", "data", "own target", "share", box=None, pad_edge=False)
        for row, entry in zip(told["runs"], found.entries.values(), strict=True):
            about = row["about"]
            table.add_row(
                plain(row["run"]), plain(row["when"]), row["state"], plain(about.get("data", "?")),
                plain(about.get("target_epsilon", "?")), f"{entry.cost / found.limit:.1%}",
            )  # fmt: skip
        console.print(table)
    console.print(
        f"Left: a run at epsilon {told['fits_epsilon']} (delta {told['delta']}, full participation) still fits\n"
        f"Head: {told['head']}"
    )
