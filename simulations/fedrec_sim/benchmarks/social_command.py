"""`fedrec bench social`: the command's options and its table."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fedrec.errors import InputError
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import read_numbers

if TYPE_CHECKING:
    from rich.table import Table

CIRCLES = ((1, 1, 12), (2, 1, 12), (2, 3, 3))
"""Groups that a circle likes, events of the user, events of each friend."""
_FIGURES = ("alone", "shared", "clear")


def social(
    epsilon: Annotated[str, typer.Option(metavar="N,...", help="Of one share.")] = "1,4,8",
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Runs of each row.")] = "0,1,2",
    users: Annotated[int, typer.Option(min=22, help="Generated users, in circles of eleven.")] = 2000,
    out: Annotated[Path | None, typer.Option(help="Folder for social.json.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Rank for people with few events with the help of their friends' noisy shares, in a generated world.

    HR@10 in the whole catalogue, as means over the seeds: from a user's own events, with shares, and with friends'
    vectors without noise, which no device gives away.

    Example: `fedrec bench social --epsilon 1,8 --seeds 0,1`
    """
    from fedrec_sim.benchmarks.result_file import ResultFile

    levels, runs = _levels(epsilon), read_numbers(seeds, "--seeds")
    results = ResultFile(
        out, "social.json", {"command": "social", "users": users}, len(CIRCLES) * len(levels) * len(runs)
    )
    for result in _measured(levels, runs, users):
        results.add(result)
    if as_json:
        write(json.dumps(results.document, indent=2, allow_nan=False) + "\n")
        return
    plain_console().print(table(results.document["results"]))


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--epsilon {text}: must be numbers, e.g. 1,4,8") from None
    if not all(0 < level < float("inf") for level in levels):
        raise InputError(f"--epsilon {text}: must be above 0 and finite")
    return levels


def _measured(levels: Sequence[float], seeds: Sequence[int], users: int) -> Iterator[dict[str, Any]]:
    from fedrec.social.simulation import measure

    for liked, known, theirs in CIRCLES:
        for level in levels:
            for seed in seeds:
                say(f"groups {liked}, own events {known}, friends' {theirs}, epsilon {level:g}, seed {seed}", err=True)
                found = measure(level, users=users, known=known, theirs=theirs, liked=liked, seed=seed)
                figures = {name: getattr(found, name) for name in _FIGURES}
                yield {"liked": liked, "known": known, "theirs": theirs, "epsilon": level, "seed": seed, **figures}


def table(results: Sequence[dict[str, Any]]) -> "Table":
    """Return the table of a finished benchmark: a row a circle and epsilon, means over the seeds."""
    from rich.table import Table

    shown = Table(
        "a circle likes", "own events", "friends' events", "epsilon", "alone", "with shares", "without noise", box=None
    )
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in results:
        rows.setdefault(tuple(each[name] for name in ("liked", "known", "theirs", "epsilon")), []).append(each)
    for (liked, known, theirs, level), runs in rows.items():
        means = [f"{np.mean([run[name] for run in runs]):.3f}" for name in _FIGURES]
        groups = f"{liked} group{'s' if liked > 1 else ''}"
        shown.add_row(groups, str(known), str(theirs), f"{level:g}", *means)
    return shown
