"""`fedrec bench secagg`: the options, and the table at the end."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.errors import InputError
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import read_names, read_numbers

WHAT = ("peers", "helper", "unmasked", "flower")
FULL = {"lengths": "10000,120000,1000000,10000000", "cohorts": "10,100,1000"}
PEERS_AT_ONCE = 100
"""Members up to which the server of `peers` is measured without --full: every member takes part for real."""


def secagg(
    lengths: Annotated[str, typer.Option(metavar="N,N,...", help="Elements of a vector.")] = "10000,120000,1000000",
    cohorts: Annotated[str, typer.Option(metavar="N,N,...", help="Members of a round.")] = "10,100,1000",
    only: Annotated[str | None, typer.Option(metavar="NAME,...", help=f"Of {', '.join(WHAT)}. [default: all]")] = None,
    bits: Annotated[int, typer.Option(min=1, max=64, help="Sums are modulo 2**bits.")] = 18,
    corrupt: Annotated[float, typer.Option(help="Fraction of the members that work with the server.")] = 0.1,
    dropout: Annotated[float, typer.Option(help="Fraction that may drop.")] = 0.3,
    split_view: Annotated[bool, typer.Option(help="Hold off a server that shows two survivor sets.")] = False,
    dropped: Annotated[float, typer.Option(min=0, max=1, help="Fraction that drops in the measured round.")] = 0.05,
    repeat: Annotated[int, typer.Option(min=1, help="Measurements of a client; the median counts.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="All lengths to 10^7 and all cohorts: many minutes.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for secagg.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """CPU seconds and bytes of a client, the server and a helper in one round of secure aggregation.

    The measurements run one after the other in this process, on one thread. Without --full the server of `peers` is
    measured up to 100 members.

    Example: `fedrec bench secagg --lengths 120000 --cohorts 100`
    """
    from fedrec.secagg import Assumption, Members
    from fedrec_sim.benchmarks.result_file import ResultFile

    names = read_names(only, WHAT, "--only") or list(WHAT)
    sizes = read_numbers(FULL["lengths"] if full else lengths, "--lengths")
    members = read_numbers(FULL["cohorts"] if full else cohorts, "--cohorts")
    if min(sizes) < 1 or min(members) < 2:
        raise InputError("--lengths: at least 1; --cohorts: at least 2")
    assumed = Assumption(corrupt, dropout, split_view)
    about = {"command": "secagg", "bits": bits, "dropped": dropped, "repeat": repeat, **asdict(assumed)}
    results = ResultFile(out, "secagg.json", about, len(sizes) * len(members))
    everybody = Members.generate(max(members))
    for cohort in members:
        for length in sizes:
            say(f"measuring {cohort} members, {length:,} elements ...", err=True)
            for cost in _costs(everybody, cohort, length, bits, assumed, dropped, repeat, full, names):
                results.add(asdict(cost))
    if as_json:
        write(json.dumps(results.document, indent=2, allow_nan=False) + "\n")
    else:
        _show(results.document)


def _costs(
    members: Any,
    cohort: int,
    length: int,
    bits: int,
    assumed: Any,
    dropped: float,
    repeat: int,
    full: bool,
    names: list[str],
) -> Iterator[Any]:
    from fedrec_sim.benchmarks import flower_secagg
    from fedrec_sim.benchmarks import secagg as own
    from fedrec_sim.benchmarks.jobs import require

    this_round = own.round_of(members, cohort, length, bits, assumed, helper=False)
    chosen, gone = this_round.parameters, int(dropped * cohort)
    if gone > chosen.dropouts:
        raise InputError(f"--dropped {dropped}: more than the assumed --dropout {assumed.dropout}")
    if "unmasked" in names:
        yield from own.unmasked(this_round, repeat)
    if "helper" in names:
        yield from own.with_helper(members, own.round_of(members, cohort, length, bits, assumed, helper=True), repeat)
    if "peers" in names:
        yield own.peer_client(members, this_round, repeat)
        if full or cohort <= PEERS_AT_ONCE:
            yield own.peer_server(members, this_round, gone)
    if "flower" in names:
        require("flower-secagg")
        one = flower_secagg.calls(length, chosen.neighbours, chosen.threshold)
        yield flower_secagg.client(length, cohort, chosen.neighbours, one)
        yield flower_secagg.server(length, cohort, chosen.neighbours, gone, one)


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "", *("members", "near", "elements", "CPU ms", "bytes up", "bytes down"), box=None)
    order = {"client": 0, "server": 1, "helper": 2}
    rows = sorted(document["results"], key=lambda row: (order[row["who"]], row["cohort"], row["length"]))
    for row in rows:
        table.add_row(
            row["who"],
            row["what"],
            f"{row['cohort']:,}",
            f"{row['neighbours']:,}" if row["neighbours"] else "",
            f"{row['length']:,}",
            f"{1e3 * row['cpu_seconds']:,.1f}",
            *("" if row[name] is None else f"{row[name]:,}" for name in ("bytes_up", "bytes_down")),
        )
    console = plain_console()
    console.print(table)
    console.print("unmasked: the same sum without masks")
    console.print("flower: the calls of its SecAgg+, added up")
