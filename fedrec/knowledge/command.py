"""`fedrec data graph`: columns of a catalogue from public triples."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.data.folder import DataDir, data_folder
from fedrec.screen import say


def graph(
    catalogue: Annotated[
        str, typer.Argument(help="A file of items (item_id and any features), or a dataset of `fedrec data list`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The parquet file to write.")],
    triples: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Public facts, a table with the columns head, relation and tail."),
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="METHODS", help="What to add, with commas: labels, paths, transe.")
    ] = "labels,paths,transe",
    relation: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Use this relation alone; may be repeated.")
    ] = None,
    width: Annotated[int, typer.Option(min=1, max=1024, help="Numbers of a vector of paths.")] = 64,
    transe_width: Annotated[int, typer.Option(min=1, max=512, help="Numbers of a TransE vector.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="Passes of TransE over the triples.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of TransE; it is public.")] = 0,
    only_vectors: Annotated[
        bool, typer.Option("--only-vectors", help="Write item_id and the vectors, without the other columns.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Turn public facts about items into features of the catalogue: labels, paths of two steps, TransE vectors.

    A head or tail that equals an item's id is that item; every other one is an entity. Events are not used, so the
    columns cost no budget. That holds for facts that nobody's behaviour made: who likes what, who tagged what and who
    knows whom are people's private data, and no triples.

    The file's metadata name method, version and the SHA-256 of the triples of each vector column. They are part of the
    catalogue's digest and of a run's privacy statement, like an encoder's.

    Examples:

    - `fedrec data graph items.csv --triples facts.tsv --out items-graph.parquet`, then
      `fedrec simulate --set data.path=log.csv --set data.catalogue=items-graph.parquet`

    - `fedrec data graph knowledge --only-vectors --out graph.parquet` (the generated log has triples of its own), then
      `fedrec simulate --set data.name=knowledge --set data.vectors=graph.parquet`

    Exit codes: 0 done, 2 input that cannot be used.
    """
    from fedrec.data import entities
    from fedrec.data.encoded import write
    from fedrec.encoders.catalogue import parts_of
    from fedrec.encoders.jobs import items_of
    from fedrec.errors import InputError, nearest
    from fedrec.knowledge.columns import METHODS, Sizes, add_columns
    from fedrec.knowledge.triples import read_triples, typed_triples

    parts_of(out)  # refuses another ending
    methods = [each.strip() for each in columns.split(",") if each.strip()]
    for name in methods:
        if name not in METHODS:
            raise InputError(f"--columns {name}: no such method.{nearest(name, METHODS)}")
    if only_vectors and not {"paths", "transe"} & set(methods):
        raise InputError("--only-vectors: labels are no vectors; add paths or transe to --columns")
    if triples is None and catalogue != entities.NAME:
        raise InputError("--triples: name the file of facts, a table with the columns head, relation and tail")
    table, _, before = items_of(catalogue, data_folder(data_dir))
    if triples is None:
        facts = typed_triples(entities.triples(), Path(entities.NAME), table["item"], relation or ())
    else:
        facts = read_triples(triples.expanduser(), table["item"], relation or ())
    found, about = add_columns(table, facts, methods, Sizes(width, transe_width, epochs, seed), before)
    if only_vectors:
        about = {name: text for name, text in about.items() if name in ("graph_paths", "graph_transe")}
        found, before = found.select("item", *about), {}
    write(found.rename({"item": "item_id"}), {**before, **about}, out)
    say(f"{int(facts.known.sum()):,} of {len(found):,} items are in the {len(facts.facts):,} triples")
    for name, text in about.items():
        empty = (
            found[name].null_count() if name in ("graph_paths", "graph_transe") else (found[name].list.len() == 0).sum()
        )
        say(f"{name}: {len(found) - int(empty):,} of {len(found):,} items, by {text}")
    say(f"Written: {out}")
