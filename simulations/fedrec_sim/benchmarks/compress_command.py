"""`fedrec bench compress`: the options, and the table at the end."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.errors import InputError, nearest
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import machine


def compress(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs, whose data are at hand.")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="FORM", help="A form of the table, e.g. int8; repeat it.")
    ] = None,
    people: Annotated[int, typer.Option(min=1, help="Users whose lists of 10 are compared.")] = 1000,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """Size, speed and quality of compressed models next to the original.

    Quality is that of the run's held-out items: true metrics, which no guarantee covers. The overlap is the part of the
    original's list of 10 that is on the compressed model's. Times are CPU times of a list on a device.

    Example: `fedrec bench compress runs/als runs/towers --data-dir DATA`
    """
    from fedrec_sim.benchmarks import compress as benchmark

    names = list(benchmark.FORMS)
    for each in only or []:
        if each not in names:
            raise InputError(f"--only {each}: unknown.{nearest(each, names)}")
    found: list[dict[str, Any]] = []
    for run in runs:
        for row in benchmark.rows(run, only or names, data_dir, people):
            say(f"{run}: {row['form']} done", err=True)
            found.append({"run": str(run)} | row)
    if as_json:
        write(json.dumps({"command": "compress", "results": found, **machine()}, indent=2, allow_nan=False) + "\n")
        return
    from rich.table import Table

    columns = ("kB", "of float32", "lists alike", "HR@10", "NDCG@10", "full HR@10", "list")
    table = Table("model", "form", *columns, box=None)
    before = 1
    for row in found:
        if "refused" in row:
            table.add_row(row["model"], row["form"], "refused")
            continue
        before = row["bytes"] if row["form"] == "as released" else before
        sampled = row["metrics"].get("sampled-99", {})
        cells = [sampled.get("hr@10"), sampled.get("ndcg@10"), row["metrics"]["full"]["hr@10"]]
        table.add_row(
            row["model"],
            row["form"],
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['bytes'] / before:.0%}",
            f"{row['overlap']:.1%}",
            *("" if value is None else f"{value:.4f}" for value in cells),
            f"{row['list_cpu_ms']:.2f} ms",
        )
    plain_console().print(table)
