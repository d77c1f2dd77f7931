"""`fedrec data`: list, download and describe datasets. Rooms above add subcommands by entry points."""

import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import click
import typer

from fedrec.commands import Commands
from fedrec.data.folder import DataDir, data_folder
from fedrec.screen import plain_console


class DataCommands(Commands):
    """The subcommands below, and the entry points of the group."""

    entry_group: ClassVar[str] = "fedrec.data.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *(name for name in super().list_commands(ctx) if name not in self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or super().get_command(ctx, cmd_name)


data = typer.Typer(
    cls=DataCommands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List datasets, get one from its publisher, look at one, or encode its items as vectors.",
)


@data.command("list")
def list_datasets(data_dir: DataDir = None) -> None:
    """List the built-in datasets, those that are ready to use, and those that can be downloaded."""
    from rich.table import Table

    from fedrec.data.readers import FOLDERS, GENERATED, others
    from fedrec.data.sources import SOURCES

    given = data_folder(data_dir)
    table = Table("dataset", "ready", "what it is")
    for name in GENERATED:
        table.add_row(name, "generated", "made as it is asked for")
    folders = {file.name for file in given.iterdir() if file.is_dir()} if given and given.is_dir() else set()
    several = [name for name in SOURCES if name.startswith("amazon")]
    here = sorted(name for name in folders if not name.startswith("."))
    of_others = others()
    for name in dict.fromkeys([*FOLDERS, *SOURCES, *of_others, *here]):
        if name not in several or name in folders:
            ready = str(given / name) if given and name in folders else "no"
            about = f"read by package {of_others[name].package}" if name in of_others else "a folder of yours"
            table.add_row(name, ready, SOURCES[name].about if name in SOURCES else about)
    table.add_row("amazon-2023-CATEGORY", "no", f"Amazon reviews 2023, {len(several)} categories, e.g. {several[0]}")
    console = plain_console()
    console.print(table)
    console.print("`fedrec data get NAME` downloads one from its publisher, after showing its licence.")
    if given is None:
        console.print("No data folder: give --data-dir or set FEDREC_DATA.")


@data.command()
def get(
    dataset: Annotated[str, typer.Argument(help="A dataset of `fedrec data list`.")],
    data_dir: DataDir = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Do not ask; you have read it.")] = False,
) -> None:
    """Download a dataset from its publisher: show the licence, resume, check, and install it whole or not at all."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from fedrec.data import download
    from fedrec.data.sources import SOURCES
    from fedrec.errors import InputError, nearest

    if dataset not in SOURCES:
        raise InputError(f"no download is known for '{dataset}'.{nearest(dataset, SOURCES)}")
    given = data_folder(data_dir)
    if given is None:
        raise InputError(f"no folder for '{dataset}': give --data-dir or set FEDREC_DATA")
    source, console = SOURCES[dataset], plain_console(soft_wrap=True)
    size = "" if source.megabytes is None else f", about {source.megabytes:g} MB"
    for line in (f"{source.about}{size}", *(f"  {remote.url}" for remote in source.files)):
        console.print(line)
    console.print(f"Licence: {source.licence}\n  {source.licence_url}\nCite: {source.citation}")
    if not accept_licence and not (sys.stdin.isatty() and typer.confirm("Do you accept the licence?")):
        raise InputError(
            f"the licence of '{dataset}' was not accepted, nothing was downloaded; read it, then give --accept-licence"
        )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {remote.name: bar.add_task(remote.name, total=None) for remote in source.files}
        found = download.get(
            source,
            given,
            lambda name, done, total: bar.update(tasks[name], completed=done, total=total),
        )
    for remote in source.files:
        about = "as published" if remote.checksum else f"none is published; pinned in {dataset}.sha256"
        console.print(f"{remote.name}: {found[remote.name]} ({about})")
    console.print(f"Ready: {given / dataset}")


@data.command()
def describe(
    dataset: Annotated[
        str,
        typer.Argument(help="A built-in dataset, or your own .parquet, .csv, .tsv, .txt, .jsonl or .inter."),
    ],
    data_dir: DataDir = None,
    catalogue: Annotated[Path | None, typer.Option(help="The items of your log, with public features.")] = None,
    min_rating: Annotated[float | None, typer.Option(help="Drop events rated below this.")] = None,
    k_core: Annotated[int, typer.Option(min=0, help="Drop users and items with fewer events.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting as in a scenario, e.g. data.columns.user=uid; may be repeated."),
    ] = None,
) -> None:
    """Describe a dataset: how it was read, what cleaning dropped, what is left, its splits and item features."""
    import numpy as np
    from rich.table import Table

    from fedrec.data.catalogue import Numbers
    from fedrec.data.datasets import DataConfig, has_folder, load
    from fedrec.data.holdouts import moment
    from fedrec.data.readers import FOLDERS, GENERATED, others
    from fedrec.data.sources import SOURCES
    from fedrec.settings import parse, parse_change, put

    named = dataset in (*FOLDERS, *GENERATED, *others())
    is_file = not named and not has_folder(dataset, data_dir)
    is_file = is_file and (Path(dataset).suffix != "" or Path(dataset).parent != Path(".") or Path(dataset).exists())
    chosen = {"path": Path(dataset).expanduser()} if is_file else {"name": dataset}
    options = {"catalogue": catalogue, "min_rating": min_rating, "k_core": k_core}
    settings: dict[str, Any] = {**chosen, **options}
    for change in changes or ():
        key, value = parse_change(change)
        put(settings, key.removeprefix("data."), value, f"--set {change}")
    config = parse(DataConfig, settings, "fedrec data describe")
    found = load(config, data_dir, seed=0)

    lengths, popularity = found.histories.lengths, np.bincount(found.histories.items, minlength=len(found.catalogue))
    head = np.sort(popularity)[::-1][: max(1, len(popularity) // 100)].sum() / popularity.sum()
    table = Table("", "", title=f"dataset {found.name}", show_header=False)
    for name, value in found.report.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    for name, how in found.reading.items():
        table.add_row(name, how)
    times = found.histories.times
    if times is not None:
        table.add_row("first and last event", f"{moment(times.min())} to {moment(times.max())}{_no_dates(times.max())}")
    table.add_row("events a user", f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):,.0f}")
    table.add_row("density", f"{len(found.histories.items) / len(lengths) / len(found.catalogue):.3%}")
    table.add_row("events on the top 1 % of items", f"{head:.1%}")
    for block in found.catalogue.blocks:
        unknown = int(np.isnan(block.values).sum()) if isinstance(block, Numbers) else 0
        kind = type(block).__name__.lower() + (f", {unknown:,} unknown" if unknown else "")
        if block.name in found.catalogue.encoders:
            kind += f", by {found.catalogue.encoders[block.name]}"
        table.add_row(f"feature '{block.name}'", kind)
    splits = ["leave-one-out", "leave-two-out", "ratio", "k-fold", "user-holdout", "cold-users"]
    splits += ["cold-items"] * bool(found.catalogue.blocks)
    splits += ["temporal"] * (found.histories.times is not None) + ["ncf"] * (found.fixed_test is not None)
    table.add_row("splits", ", ".join([*splits, *["given", "given-all"] * (found.parts is not None)]))
    if found.name in SOURCES and not is_file:
        source = SOURCES[found.name]
        table.add_row("licence", f"{source.licence} {source.licence_url}")
        table.add_row("cite", source.citation)
    plain_console().print(table)


def _no_dates(newest: float) -> str:
    """Return a remark on times that are hardly dates: all before March 1973, such as positions in an order."""
    return "" if newest >= 10**8 else " (numbers this small are hardly dates; their order is used as it is)"
