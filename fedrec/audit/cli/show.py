"""`fedrec audit show`, `report` and `diff`: a run's promise for readers."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.plain_text import plain
from fedrec.screen import plain_console, say

Run = Annotated[Path, typer.Argument(help="A run's folder, or a file of `fedrec audit export`.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else.")]


def show(run: Run, json: Json = False) -> None:
    """Show the promise of a run, its adversaries, and how the budget was spent, on one screen.

    All facts come from the ledger of RUN, and the statement's files are compared with it. If they differ, the
    difference is printed first, and the exit code is 4. `fedrec audit verify` checks whether the ledger is genuine;
    `fedrec audit report` gives all details.

    - `fedrec audit show runs/quickstart`

    - `fedrec audit show runs/quickstart --json | jq .statement.epsilon`
    """
    from fedrec.audit.report.summary import print_summary
    from fedrec.audit.statement.received import receive

    received = receive(run)
    if json:
        _print_json(
            {
                "statement": received.statement.model_dump(mode="json", by_alias=True),
                "faults": received.faults,
                "notes": received.notes,
                "attacks": received.attacks,
                "ledger": {"entries": len(received.known.records), "head": received.head},
            }
        )
    else:
        print_summary(received)
    received.require_agreement()


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write it. Default: RUN/report.html; RUN.html for a file or a renamed release/.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write all details of a run as one HTML page, for lay readers and for experts.

    The page is one file that loads nothing from the network. It contains the promise, epsilon by adversary, the best
    possible attack, the use of the budget, assumptions and who must keep them, limits, two published checklists, and
    how to check it. All facts come from the ledger. If the statement's files differ from it, the page begins with the
    difference, and the exit code is 4.

    - `fedrec audit report runs/quickstart --open`

    - `fedrec audit report received/run -o report.html`
    """
    from fedrec.audit.report.html import page
    from fedrec.audit.statement.received import receive
    from fedrec.received_files import replace_named, write_below

    received = receive(run)
    target = output or received.report
    content = page(received).encode()
    if output is None and received.place.is_dir() and target.parent == received.place:
        write_below(received.place, target.name, content)
    else:
        replace_named(target, content)
    say(f"Written to {target}")
    if show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
    received.require_agreement()


def diff(
    a: Annotated[Path, typer.Argument(help="A run's folder, or an exported file.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Another.", show_default=False)],
    every: Annotated[bool, typer.Option("--all", help="List equal facts, too.")] = False,
    json: Json = False,
) -> None:
    """Show the differences between the promises and records of two runs.

    It compares epsilon against each adversary, unit, clips, noise, sampling, rounds, data, versions, assumptions and
    limits, as the ledgers give them. It names the run that promises less, if the two are comparable. The exit code is 0
    whether or not the runs differ. It is 4 if a statement's file differs from its own ledger; that is printed first.

    - `fedrec audit diff runs/before runs/after`

    - `fedrec audit diff runs/before runs/after --json | jq .differs`
    """
    from rich.table import Table
    from rich.text import Text

    from fedrec.audit.report.difference import difference
    from fedrec.audit.statement.received import receive

    runs = (receive(a), receive(b))
    found = difference(*runs)
    if json:
        faults = {"a": runs[0].faults, "b": runs[1].faults}
        told = {"a": str(a), "b": str(b), "faults": faults, "verdict": found.verdict}
        _print_json(told | {"differs": list(map(asdict, found.differs)), "same": list(map(asdict, found.same))})
        for run in runs:
            run.require_agreement()
        return
    console = plain_console()
    for run in runs:
        for fault in run.faults:
            console.print(Text(plain(f"CONTRADICTION: {run.place}: {fault}"), "bold red"), soft_wrap=True)
    rows = found.differs + (found.same if every else [])
    if rows:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in ("", str(a), str(b)):
            table.add_column(Text(plain(heading)), overflow="fold")
        for row in rows:
            table.add_row(*(Text("-" if text is None else plain(text)) for text in (row.what, row.a, row.b)))
        console.print(table)
    every_fact = len(found.differs) + len(found.same)
    verdict = f"{len(found.differs)} of {every_fact} facts differ; {plain(found.verdict)}."
    console.print(Text(verdict, "bold"))
    for run in runs:
        run.require_agreement()


def _print_json(value: Any) -> None:
    import json

    json.dump(value, sys.stdout, indent=2)
    say()
