"""Vector columns that an encoder made: what their file says about it, and how they join a log's items.

`fedrec data encode` writes a parquet file whose metadata name the encoder of each vector column. The text goes into
the catalogue's digest and into the statement, so a run is bound to the vectors and to the encoder that they are said
to come from. The text is the publisher's word: encoding the same texts again shows whether it holds.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from fedrec.data.columns import CatalogueColumns
from fedrec.data.containers import PARQUET
from fedrec.data.log import Log
from fedrec.data.movielens import read_own_catalogue
from fedrec.data.positions import positions_of
from fedrec.errors import InputError, first_line

KEY = "fedrec.encoders"
"""The key of the encoders in a parquet file's metadata: JSON, column -> text."""


def write(table: pl.DataFrame, encoders: Mapping[str, str], file: Path) -> None:
    """Write a table with the encoders of its vector columns; `encoders_of` reads them.

    Args:
        table: the columns.
        encoders: vector column -> text that names its encoder.
        file: the parquet file.
    """
    fresh = file.with_name(f".{file.name}.new")
    table.write_parquet(fresh, metadata={KEY: json.dumps(dict(encoders), sort_keys=True)})
    fresh.replace(file)


def encoders_of(file: Path | None) -> dict[str, str]:
    """Return the encoders that a parquet file names, by column; none for another kind of file.

    Raises:
        InputError: for metadata of this key in another form.
    """
    if file is None or file.suffix.lower() != PARQUET or not file.is_file():
        return {}
    try:
        text = pl.read_parquet_metadata(file).get(KEY, "{}")
        found = json.loads(text)
    except (pl.exceptions.PolarsError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: its metadata are not readable ({first_line(error)}); encode it again") from None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise InputError(f"{file}: '{KEY}' in its metadata is no table of texts; encode it again")
    return found


def with_vectors(log: Log, file: Path) -> Log:
    """Add the vector columns of `file` to a log's items, by item id. Items that the file lacks get no vector.

    Raises:
        InputError: for a file without vector columns, without an item of the log, or with a column of the log's name.
    """
    table, encoders = read_own_catalogue(file, CatalogueColumns()), encoders_of(file)
    vectors = [column.name for column in table if _is_vectors(column)]
    if not vectors:
        raise InputError(
            f"data.vectors = {file}: has no column of vectors (lists of numbers); `fedrec data encode` makes one"
        )
    if table["item"].is_duplicated().any():
        twice = table["item"].filter(table["item"].is_duplicated())[0]
        raise InputError(f"data.vectors = {file}: item {twice} occurs twice; keep one row an item")
    items = log.events.select(pl.col("item").unique().sort()) if log.items is None else log.items
    if taken := [name for name in vectors if name in items.columns]:
        raise InputError(f"data.vectors = {file}: the items have a column '{taken[0]}' already; rename one of them")
    table = table.select("item", *vectors)
    if table["item"].dtype != items["item"].dtype:
        table, items = (each.with_columns(pl.col("item").cast(pl.String)) for each in (table, items))
    if positions_of(items["item"], table["item"].sort()).null_count() == len(items):
        raise InputError(f"data.vectors = {file}: has none of the items of {log.source}; give the file of this dataset")
    joined = items.join(table, on="item", how="left", maintain_order="left")
    named = {name: encoders[name] for name in vectors if name in encoders}
    return replace(log, items=joined, encoders={**log.encoders, **named})


def _is_vectors(column: pl.Series) -> bool:
    return isinstance(column.dtype, pl.List | pl.Array) and column.dtype.inner.is_numeric()
