"""`fedrec data`: which datasets there are, and what is in one."""

import os
from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="List datasets, or look at one.")

_DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="A folder with a folder per dataset; else the environment's FEDREC_DATA."),
]


@data.command("list")
def list_datasets(data_dir: _DataDir = None) -> None:
    """The built-in datasets, and which of them are ready to use."""
    from rich.console import Console
    from rich.table import Table

    from fedrec.data.datasets import FOLDERS, GENERATED

    given = data_dir or os.environ.get("FEDREC_DATA")
    table = Table("dataset", "ready")
    for name in GENERATED:
        table.add_row(name, "yes, generated")
    for name in FOLDERS:
        here = given is not None and (Path(given) / name).is_dir()
        table.add_row(
            name, f"yes, {Path(given) / name}" if given and here else "no folder of this name in the data folder"
        )
    Console().print(table)
    if given is None:
        Console().print("No data folder: give --data-dir or set FEDREC_DATA.")


@data.command()
def describe(
    dataset: Annotated[str, typer.Argument(help="A built-in dataset, or a file: .parquet, .csv, .tsv, .inter.")],
    data_dir: _DataDir = None,
    catalogue: Annotated[Path | None, typer.Option(help="The items of your log, with public features.")] = None,
    min_rating: Annotated[float | None, typer.Option(help="Drop events rated below this.")] = None,
    k_core: Annotated[int, typer.Option(min=0, help="Drop users and items with fewer events.")] = 0,
) -> None:
    """What was read, what cleaning dropped, what is left, and which splits and item features there are."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from fedrec.data.datasets import FOLDERS, GENERATED, DataConfig, load

    is_file = dataset not in (*FOLDERS, *GENERATED) and Path(dataset).suffix != ""
    chosen = {"path": Path(dataset)} if is_file else {"name": dataset}
    config = DataConfig.model_validate({**chosen, "catalogue": catalogue, "min_rating": min_rating, "k_core": k_core})
    found = load(config, data_dir, seed=0)

    lengths, popularity = found.histories.lengths, np.bincount(found.histories.items, minlength=len(found.catalogue))
    head = np.sort(popularity)[::-1][: max(1, len(popularity) // 100)].sum() / popularity.sum()
    table = Table("", "", title=f"dataset {found.name}", show_header=False)
    for name, value in found.report.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    table.add_row("events a user", f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):,.0f}")
    table.add_row("density", f"{len(found.histories.items) / len(lengths) / len(found.catalogue):.3%}")
    table.add_row("events on the top 1 % of items", f"{head:.1%}")
    for block in found.catalogue.blocks:
        table.add_row(f"feature '{block.name}'", type(block).__name__.lower())
    splits = ["leave-one-out", "leave-two-out", "ratio", "k-fold", "user-holdout"]
    splits += ["temporal"] * (found.histories.times is not None) + ["ncf"] * (found.fixed_test is not None)
    table.add_row("splits", ", ".join([*splits, *["given"] * (found.parts is not None)]))
    Console().print(table)
