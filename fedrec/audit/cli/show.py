"""`fedrec audit show`, `report` and `diff`: a run's promise for a person to read."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.plain_text import plain
from fedrec.screen import plain_console, say

Run = Annotated[Path, typer.Argument(help="A run's folder, or a file of `fedrec audit export`.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else.")]


def show(run: Run, json: Json = False) -> None:
    """What a run promises, against whom, what was spent and on what: one screen.

    Shows what the ledger of RUN gives, and compares the statement's files with it. Exit code 4 when they differ; that
    comes first then. Whether the ledger is genuine, `fedrec audit verify` checks; the whole account is `fedrec audit
    report`.

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
                "attacks": received.of_type("attack"),
                "ledger": {"entries": len(received.payloads), "head": received.head},
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
    """The whole account as one HTML page, for a reader who is no expert and for one who is.

    One file that loads nothing from anywhere: send it, print it, keep it. It tells the promise, epsilon by adversary,
    what the best attacker could do, where the budget went, assumptions and who must keep them, what is not protected,
    two published checklists, and how to check it: all of it as the ledger gives it. Exit code 4, after writing, when
    the statement's files differ from the ledger; the page says so first.

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
    every: Annotated[bool, typer.Option("--all", help="Also what is the same.")] = False,
    json: Json = False,
) -> None:
    """What differs between the promises and records of two runs.

    Epsilon against each adversary, unit, clips, noise, sampling, rounds, data, versions, assumptions, what is not
    protected; and which run promises less, where that can be said: all of it as the ledgers give it. Exit code 0
    whether or not the runs differ, 4 when a statement's file differs from its own ledger; that comes first then.

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
        _print_json(told | {"differs": found.differs, "same": found.same})
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
            table.add_row(*(Text("-" if row[key] is None else plain(row[key])) for key in ("what", "a", "b")))
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
