"""The table of a catalogue: item ids and features."""

from pathlib import Path

import polars as pl

from fedrec.data.columns import CatalogueColumns
from fedrec.data.features import feature
from fedrec.data.ids import ids
from fedrec.data.tables import named, need_columns, read_table
from fedrec.errors import InputError


def read_catalogue(file: Path, columns: CatalogueColumns | None = None) -> pl.DataFrame:
    """Read a catalogue file: `item_id` and any features, with the types that `fedrec.data.features` finds.

    Raises:
        InputError: as `read_log`, or for a cell that differs in type from nearly all others of its column.
    """
    columns = columns or CatalogueColumns()
    return typed_catalogue(read_table(file, columns), file, columns)


def typed_catalogue(table: pl.DataFrame, file: Path, columns: CatalogueColumns) -> pl.DataFrame:
    """Type the features of a table in memory, which messages call `file`.

    Raises:
        InputError: as `read_catalogue`.
    """
    table = named(table, file, columns.named)
    need_columns(table, file, "item_id", settings="data.catalogue_columns")
    need_columns(table, file, *columns.text, settings="data.catalogue_columns")
    features = [feature(table[name], file, columns) for name in table.columns if name != "item_id"]
    return pl.DataFrame([item_ids(table, "item_id", file), *features])


def item_ids(table: pl.DataFrame, column: str, file: Path) -> pl.Series:
    """Return the ids of `column` under the name `item`, as a catalogue needs them.

    Raises:
        InputError: as `ids`, or when another column has the name `item`.
    """
    if column != "item" and "item" in table.columns:
        raise InputError(f"{file}: has a column 'item' beside '{column}', which is read as 'item'; rename or drop one")
    return ids(table[column], file).alias("item")
