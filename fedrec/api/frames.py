"""Tables of other packages as polars tables, by what they can do: none of these packages is imported."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from fedrec.errors import InputError, first_line


def table_of(table: Any, what: str) -> pl.DataFrame:
    """A table of polars, pandas, pyarrow, or columns by name, as a polars table.

    Args:
        table: what was given.
        what: its name in messages.

    Raises:
        InputError: when it is no table, or has no rows.
    """
    try:
        found = _table(table)
    except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:
        raise InputError(f"{what}: cannot be read as a table ({first_line(error)})") from None
    if found is None:
        raise InputError(
            f"{what}: a {type(table).__name__} is no table; give a file, a table of polars or pandas, or "
            "columns by name"
        )
    if found.is_empty():
        raise InputError(f"{what}: has no rows; a log needs at least one event, a catalogue one item")
    return found


def _table(table: Any) -> pl.DataFrame | None:
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, Mapping):
        return pl.DataFrame(dict(table))
    if hasattr(table, "columns") and hasattr(table, "to_numpy") and hasattr(table, "iloc"):  # pandas, without pyarrow
        return pl.DataFrame({str(name): _column(table[name]) for name in table.columns})
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(table)
    if hasattr(table, "__dataframe__"):
        return pl.from_dataframe(table)
    return None


def _column(column: Any) -> pl.Series:
    """A column of pandas: objects one by one with their missing values as null, the rest as NumPy holds them."""
    if column.dtype.kind in "iufbM":
        return pl.Series(column.to_numpy())
    missing = column.isna().to_list()
    return pl.Series([None if gone else value for value, gone in zip(column.to_list(), missing, strict=True)])
