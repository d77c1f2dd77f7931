"""`fedrec bench device-round`: the options, and the table at the end."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.screen import plain_console, write
from fedrec_sim.benchmarks.options import machine


def device_round(
    items: Annotated[
        int, typer.Option(min=20, help="Size of the generated catalogue; 3,706 is MovieLens-1M's.")
    ] = 3706,
    users: Annotated[int, typer.Option(min=100, help="Size of the population.")] = 6040,
    events: Annotated[int, typer.Option(min=1, help="Events of the device.")] = 200,
    dim: Annotated[int, typer.Option(min=1, max=256, help="Length of the vectors of als.")] = 16,
    repeat: Annotated[int, typer.Option(min=1, help="Processes for each row; the median is shown.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """CPU seconds, memory and bytes of one training round on a device, in a process that starts for it.

    Each answers a recorded question of a real run of trust model local: card, charge, store, sums, noise, receipt.

    Example: `fedrec bench device-round --repeat 5`
    """
    from fedrec_sim.benchmarks.asked_round import MODES, answered, bytes_down, recorded

    rows: list[dict[str, Any]] = []
    for algorithm in ("popularity", "als"):
        with tempfile.TemporaryDirectory() as work:
            packet, masked = recorded(Path(work), items, users, events, algorithm, dim)
            down = bytes_down(packet)
            for mode in MODES:
                found = sorted((answered(Path(work), mode) for _ in range(repeat)), key=lambda one: one["cpu_s"])
                rows.append(
                    {"algorithm": algorithm, "mode": mode, "bytes_down": down, "bytes_masked": masked}
                    | found[len(found) // 2]
                )
    if as_json:
        document = {"command": "device-round", "items": items, "events": events, "results": rows, **machine()}
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    from rich.table import Table

    table = Table("", "CPU", "peak", "up", "up, masked", "down, float32", "float16", "int8", box=None)
    for row in rows:
        table.add_row(
            f"{row['algorithm']}, {row['mode']}",
            f"{row['cpu_s']:.2f} s",
            f"{row['peak_rss_mb']:.0f} MB",
            *(f"{size / 1e6:.2f} MB" for size in (row["bytes_up"], row["bytes_masked"], *row["bytes_down"].values())),
        )
    plain_console().print(table)
