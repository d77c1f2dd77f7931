"""`fedrec bench serve`: the options, and the table at the end."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import machine, read_numbers


def serve(
    items: Annotated[int, typer.Option(min=100, help="Size of a generated catalogue.")] = 100_000,
    dim: Annotated[int, typer.Option(min=1, max=1024, help="Length of its item vectors.")] = 64,
    models: Annotated[
        list[Path] | None, typer.Option("--model", help="A run or a model's folder in its place; may be repeated.")
    ] = None,
    events: Annotated[str, typer.Option(metavar="N,N,...", help="Events of a history.")] = "50,200",
    k: Annotated[int, typer.Option(min=1, help="Places of a list.")] = 10,
    connections: Annotated[str, typer.Option(metavar="N,N,...", help="Kept connections at a time.")] = "1,8,32",
    requests: Annotated[int, typer.Option(min=10, help="Measured requests of each kind.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """Milliseconds of a list over HTTP: `fedrec serve` on one core, next to its no-op route and the bare model.

    Times of the model and of the service without sockets are CPU times. Times over HTTP are wall times at the client:
    compare them with those of the no-op route.

    Example: `fedrec bench serve --items 100000 --requests 2000`
    """
    from fedrec.serving.loaded import Loaded
    from fedrec_sim.benchmarks import serving
    from fedrec_sim.benchmarks.edge import generated_model

    cores = sorted(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        made = models or [generated_model(Path(work) / "generated", items, dim)]
        for model in made:
            loaded = Loaded.of(model)
            ids = [loaded.ids.at(place) for place in range(len(loaded.ids))]
            name = f"{loaded.about.algorithm}, {loaded.about.items:,} items"
            for count in read_numbers(events, "--events"):
                say(f"measuring {name}, {count} events ...", err=True)
                sent = serving.bodies(ids, count, k, requests)
                row: dict[str, Any] = {"model": name, "events": count} | serving.in_process(loaded, sent)
                with serving.server(model, cores[0] if len(cores) > 1 else None) as (port, process):
                    serving.load(port, process, sent[:50], 1)
                    row["http"] = [
                        serving.load(port, process, sent, many) for many in read_numbers(connections, "--connections")
                    ]
                rows.append(row)
    document = {"command": "serve", "k": k, "requests": requests, "results": rows, **machine()}
    if as_json:
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    columns = ("events", "model", "99 %", "service", "99 %")
    table = Table("CPU ms a list", *columns, box=None)
    for row in rows:
        cells = [row[part][which] for part in ("model_cpu_ms", "service_cpu_ms") for which in ("median", "99 %")]
        table.add_row(row["model"], str(row["events"]), *(f"{value:.2f}" for value in cells))
    over = ("events", "connections", "lists/s", "list", "99 %", "server CPU", "no-op", "99 %", "server CPU")
    http = Table("over HTTP, ms", *over, box=None)
    for row in rows:
        for each in row["http"]:
            times = [
                value
                for name in ("lists", "no_op")
                for value in (*each[name]["wall_ms"].values(), each[name]["server_cpu_ms"])
            ]
            rate = f"{each['lists']['requests_per_second']:.0f}"
            shown = (f"{value:.2f}" for value in times)
            http.add_row(row["model"], str(row["events"]), str(each["connections"]), rate, *shown)
    plain_console().print(table)
    plain_console().print(http)
