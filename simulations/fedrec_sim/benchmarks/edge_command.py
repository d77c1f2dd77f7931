"""`fedrec bench edge`: the options, and the table at the end."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.errors import InputError
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import machine, read_numbers


def edge(
    items: Annotated[
        str, typer.Option(metavar="N,N,...", help="Sizes of generated catalogues.")
    ] = "3706,100000,1000000",
    dim: Annotated[int, typer.Option(min=1, max=1024, help="Length of their item vectors.")] = 64,
    models: Annotated[
        list[Path] | None,
        typer.Option("--model", help="A run or a model's folder to measure as well; may be repeated."),
    ] = None,
    events: Annotated[int, typer.Option(min=1, help="Events of a history.")] = 200,
    k: Annotated[int, typer.Option(min=1, help="Places of a list.")] = 10,
    repeat: Annotated[int, typer.Option(min=1, help="Measured lists.")] = 300,
    tries: Annotated[int, typer.Option(min=0, help="Lists compared with an exact search through all items.")] = 0,
    compare: Annotated[
        bool,
        typer.Option("--parity", help="Also compare the lists of all users of a --model's run with those of torch."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """CPU milliseconds and memory of a list on a small computer: one thread, without torch.

    Each measurement runs in a process of its own. The first list counts from the start of the process. Rows of
    EdgeClient include the encrypted store; its time of an event leaves out waiting for the disk.

    Example: `fedrec bench edge --items 100000 --tries 100`
    """
    from fedrec.audit.evidence.layout import Layout
    from fedrec_sim.benchmarks.edge import generated_model, measure, parity

    sizes = read_numbers(items, "--items") if items else []
    if any(size < 2 * k for size in sizes):
        raise InputError(f"--items {items}: each at least {2 * k}, twice the places of a list")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for size in sizes:
            say(f"measuring {size:,} items x {dim} ...", err=True)
            folder = generated_model(Path(work) / f"generated-{size}", size, dim)
            found = measure(folder, Path(work) / f"index-{size}", events, k, repeat, tries)
            rows.append({"model": f"als, {size:,} x {dim}"} | found)
        for number, model in enumerate(models or []):
            say(f"measuring {model} ...", err=True)
            folder = model if (model / "manifest.json").is_file() else Layout.of(model).release / "model"
            found = measure(folder, Path(work) / f"index-of-{number}", events, k, repeat, tries)
            if compare:
                found["parity"] = parity(model, folder, k)
            rows.append({"model": str(model)} | found)
    document = {"command": "edge", "events": events, "k": k, "repeat": repeat, "results": rows, **machine()}
    if as_json:
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        _show(rows, k)


def _show(rows: list[dict[str, Any]], k: int) -> None:
    from rich.table import Table

    columns = (
        "first list",
        "its peak",
        f"list of {k}",
        "99 %",
        "event",
        "99 %",
        "full refit",
        "peak",
        "exact",
        "as torch",
    )
    table = Table("", *columns, box=None)
    for row in rows:
        compared, alike = row.get("exact"), row.get("parity")
        table.add_row(
            row["model"],
            f"{row['first']['cpu_ms']:.0f} ms",
            _mb(row["first"]["peak_rss_mb"]),
            f"{row['list_ms']['median']:.2f} ms",
            f"{row['list_ms']['99 %']:.2f} ms",
            f"{row['record_ms']['median']:.2f} ms",
            f"{row['record_ms']['99 %']:.2f} ms",
            f"{row['refit_ms']['median']:.2f} ms",
            _mb(row["peak_rss_mb"]),
            f"{compared['equal']:,} of {compared['tries']:,}" if compared else "",
            f"{alike['users'] - alike['differ']:,} of {alike['users']:,}" if alike else "",
        )
    for row in rows:
        if own := row.get("client"):
            table.add_row(
                f"EdgeClient, {row['model']}",
                f"{own['first']['cpu_ms']:.0f} ms",
                _mb(own["first"]["peak_rss_mb"]),
                f"{own['recommend_ms']['median']:.2f} ms",
                f"{own['recommend_ms']['99 %']:.2f} ms",
                f"{own['record_ms']['median']:.2f} ms",
                f"{own['record_ms']['99 %']:.2f} ms",
                "",
                _mb(own["peak_rss_mb"]),
            )
    plain_console().print(table)


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MB"
