"""`fedrec recommend`: one person's list from a run's released model, with the reasons."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrec.data.folder import DataDir, data_folder
from fedrec.errors import InputError
from fedrec.private_files import create
from fedrec.screen import plain_console, say

if TYPE_CHECKING:
    import polars as pl


def recommend(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the run's log, by the id there.")] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A history instead, oldest first: ids of items, one a line, or a table (CSV, JSON lines, parquet) "
            "with a column item_id.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Places of the list.")] = 10,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="ID|FILE", help="An item to leave out, or a file of items as in --history. Repeatable."),
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="0: the best scores. Towards 1: items that are unlike each other.")
    ] = 0.0,
    seen: Annotated[bool, typer.Option("--seen", help="Items of the history may be on the list.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in words what each item's score is made of; the shares sum to it.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the reasons of the best item into a new SVG file.")
    ] = None,
    similar: Annotated[
        str | None, typer.Option(metavar="ITEM", help="List the items that are most alike to this one instead.")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="With --similar: cosine, pearson, or euclid, which is 1 / (1 + distance).")
    ] = "cosine",
    threshold: Annotated[float | None, typer.Option(help="With --similar: least likeness.")] = None,
    data_dir: DataDir = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The run's log, where it is no longer at the scenario's place.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON, and nothing else.")] = False,
) -> None:
    """Show the list that a run's model gives one person, and why.

    A run holds no histories. With --user the log is read again as the scenario says, and refused unless it is the one
    that the run was trained on. With --history the released model is enough; titles need the run's data.

    The columns of the list: `carried by` names the groups of features that raised the score most over an average
    item's (for models that score by features), `because of` the past items without which the score would fall most.
    Both are computed by scoring again. --explain splits each score into shares of the own past items and of groups of
    features, which sum to the score less that of the average item.

    The list is PRIVATE to that person, as the history is, and no epsilon covers it: it is computed here, shown here,
    and written nowhere but into the file of --picture.

    Examples:

    - `fedrec recommend runs/mine --user 42`

    - `fedrec recommend runs/mine --history seen.txt -k 20 --diversity 0.3 --exclude 17`

    - `fedrec recommend runs/mine --user 42 -k 3 --explain --picture why.svg`

    - `fedrec recommend runs/mine --similar 17 --measure pearson --threshold 0.5`

    - `fedrec recommend runs/mine --user 42 --json > list.json`

    Exit codes: 0 done, 2 input that cannot be used.
    """
    if [user, history, similar].count(None) != 2:
        raise InputError("recommend: for whom? Give --user ID or --history FILE, or an item with --similar")
    if similar is None and (measure != "cosine" or threshold is not None):
        raise InputError("recommend: --measure and --threshold are for --similar ITEM; give it, or leave them out")
    from fedrec.api.data import read_log
    from fedrec.api.model import load_model
    from fedrec.api.run import load_run
    from fedrec.audit.evidence.layout import Layout
    from fedrec.ondevice.picture import bar_chart

    layout = Layout.of(run)
    if (layout.private / "summary.json").is_file():
        opened = load_run(run, None, data_folder(data_dir))
        if log is not None:
            opened = load_run(run, opened.data_in(log), data_folder(data_dir))
        model = opened.model
    else:
        if user is not None:
            raise InputError(f"{run}: --user needs the whole run with its private/ folder; give --history FILE")
        model = load_model(run, None if log is None else read_log(log))
    if similar is not None:
        _show_alike(model.similar(similar, k, measure, threshold), similar, model.algorithm, as_json)
        return
    given = None if history is None else items_of(history)
    left_out = [item for each in exclude or () for item in _excluded(each)]
    found = model.recommend(user=user, history=given, k=k, exclude=left_out, diversity=diversity, seen=seen, why=True)
    asked = found["item"].to_list() if explain else found["item"].to_list()[: 1 if picture is not None else 0]
    reasons = [model.explain(item, user=user, history=given) for item in asked]
    if picture is not None and reasons:
        create(picture, bar_chart(reasons[0]).encode())
    if as_json:
        whole = {"model": model.algorithm, "items": found.to_dicts()}
        whole |= {"reasons": [each.summary for each in reasons]} if explain else {}
        json.dump(whole, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return
    _show(found, "a history" if user is None else f"user {user}", model.algorithm, picture)
    for each in reasons if explain else ():
        say(f"{each.title}: {each.words}")


def _show_alike(found: "pl.DataFrame", item: str, algorithm: str, as_json: bool) -> None:
    if as_json:
        json.dump({"model": algorithm, "items": found.to_dicts()}, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return
    from fedrec.plain_text import plain

    for row in found.to_dicts():
        say(plain(f"{row['likeness']:8.4f}  {row['item']}  {row.get('title', '')}".rstrip()))
    say(
        plain(
            f"Alike to {item} by the public rows of {algorithm}." if found.height else f"No item is so alike to {item}."
        )
    )


def items_of(file: Path) -> list[str]:
    """The items of a file: ids one a line, or the column item_id of a table. Raises: InputError."""
    from fedrec.data.containers import FORMATS, existing, kind
    from fedrec.data.tables import need_columns, read_table

    if kind(existing(file)) in FORMATS and kind(file) != ".txt":
        table = read_table(file)
        need_columns(table, file, "item_id", settings="data.columns")
        cells = [str(cell) for cell in table["item_id"].to_list() if cell is not None]
    else:
        try:
            cells = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{file}: not a text file in utf-8; write ids of items, one a line") from None
    return [cell.strip() for cell in cells if cell.strip()]


def _excluded(given: str) -> list[str]:
    return items_of(Path(given)) if Path(given).is_file() else [given]


def _show(found: "pl.DataFrame", whose: str, algorithm: str, picture: Path | None) -> None:
    from rich import box
    from rich.table import Table

    from fedrec.plain_text import plain

    rows = found.to_dicts()
    heads = ["", "item", *(["title"] if "title" in found.columns else []), "score"]
    carried = any(row["carried_by"] for row in rows)
    table = Table(title=plain(f"For {whose}, by {algorithm}"), title_justify="left", box=box.SIMPLE_HEAD)
    for head in [*heads, *(["carried by"] if carried else []), "because of"]:
        table.add_column(head, justify="right" if head in ("", "score") else "left")
    for place, row in enumerate(rows, 1):
        cells: list[Any] = [place, row["item"], *([row["title"]] if "title" in row else []), f"{row['score']:.4g}"]
        cells += [", ".join(row["carried_by"])] if carried else []
        table.add_row(*(plain(cell) for cell in [*cells, "; ".join(row["because_of"])]))
    console = plain_console()
    console.print(table)
    if not rows:
        say("No item is left to recommend.")
    where = "nowhere" if picture is None or not rows else f"into {picture} alone"
    say(f"PRIVATE to this person: computed here from the released model and the history, and written {where}.")
