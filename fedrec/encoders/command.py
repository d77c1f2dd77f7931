"""`fedrec data encode`: vector columns for a catalogue."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.data.folder import DataDir, data_folder
from fedrec.screen import plain_console, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from fedrec.encoders.base import Kind
    from fedrec.progress import Listener, Step


def encode(
    catalogue: Annotated[
        str, typer.Argument(help="A file of items (item_id and any features), or a dataset of `fedrec data list`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The parquet file to write.")],
    text: Annotated[
        str, typer.Option(metavar="COLUMNS", help="Columns for one sentence an item, with commas: title,year,genres.")
    ] = "",
    images: Annotated[str, typer.Option(metavar="COLUMN", help="Column of paths to pictures.")] = "",
    audio: Annotated[str, typer.Option(metavar="COLUMN", help="Column of paths to WAV files.")] = "",
    encoder: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=MODEL]", help="An encoder, and a model of yours. One a kind of input; repeatable."),
    ] = None,
    sha256: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]HASH", help="The SHA-256 that the weights must have, in place of the pinned one."),
    ] = None,
    only_vectors: Annotated[
        bool, typer.Option("--only-vectors", help="Write item_id and the vectors, without the other columns.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Encode the items' public texts, pictures and sounds as vectors, which models use as item features.

    The encoder sees the catalogue alone: no user, no history, no epsilon. Each item's text is ONE sentence of all
    named columns ("Title: Heat; year: 1995; genres: Action, Crime"), which is worth far more than the title alone. An
    empty cell, or a file that cannot be read, gives an item no vector.

    The file's metadata name the encoder of each column with version and SHA-256 of its weights. They are part of the
    catalogue's digest and of a run's privacy statement. A model file that is not the pinned one is refused unless
    --sha256 names it.

    Finished parts are kept in FILE.parts until the file is whole: the same command continues after a crash.

    Encoders of text: `e5` (best; 100 languages), `minilm` (smaller; English), `words` (no package needed), `onnx=FILE`
    and `sentence-transformers=MODEL` (yours). Pictures: `efficientnet`, or CLIP by `sentence-transformers=MODEL`.
    Sound: `sound`, plain statistics of the spectrum. Without --encoder the best one that is installed.

    Examples:

    - `fedrec data encode items.csv --text title,year,genres --out items.parquet`, then
      `fedrec simulate --set data.path=log.csv --set data.catalogue=items.parquet`

    - `fedrec data encode ml-1m --data-dir DATA --text title,year,genres --only-vectors --out ml-1m-e5.parquet`, then
      `fedrec simulate ml-1m-dp --set data.vectors=ml-1m-e5.parquet`

    - `fedrec data encode shop.parquet --text title,description --images photo --encoder minilm --out shop-v.parquet`

    Exit codes: 0 done, 2 input that cannot be used.
    """
    from fedrec.data.encoded import write
    from fedrec.encoders.catalogue import clear, encode_table, parts_of
    from fedrec.encoders.jobs import items_of, jobs_of
    from fedrec.progress import listening

    keep = parts_of(out)
    columns: dict[Kind, list[str]] = {"text": [name.strip() for name in text.split(",") if name.strip()]}
    columns |= {"image": [images] if images else [], "audio": [audio] if audio else []}
    table, folder, before = items_of(catalogue, data_folder(data_dir))
    jobs, remarks = jobs_of(table, columns, encoder or (), sha256 or (), before)
    for line in remarks:
        say(line, err=True)
    with ExitStack() as stack:
        console = plain_console(stderr=True)
        if console.is_terminal:
            stack.enter_context(listening(_bar(stack, console)))
        found = encode_table(table, jobs, folder, keep)
    kept = found.table.select("item", *found.encoders) if only_vectors else found.table
    write(kept.rename({"item": "item_id"}), {**({} if only_vectors else before), **found.encoders}, out)
    clear(keep)
    if found.remark():
        say(found.remark(), err=True)
    for name, source in found.encoders.items():
        known = len(kept) - kept[name].null_count()
        say(f"{name}: {known:,} of {len(kept):,} items, {found.widths[name]} numbers each, by {source}")
    say(f"Written: {out}" + (f" ({found.reused:,} vectors were already there)" if found.reused else ""))


def _bar(stack: ExitStack, console: "Console") -> "Listener":
    """Return a listener that shows steps as bars on the console until the stack closes."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bar = stack.enter_context(Progress(*columns, TimeRemainingColumn(), console=console, transient=True))
    tasks: dict[str, TaskID] = {}

    def show(now: "Step") -> None:
        if now.name not in tasks:
            tasks[now.name] = bar.add_task(now.name, total=now.total)
        bar.update(tasks[now.name], completed=now.done)

    return show
