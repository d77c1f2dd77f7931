"""Events of a table: which column is what, ids as ids, times as seconds, and how each of them was read."""

from pathlib import Path
from typing import NoReturn

import polars as pl

from fedrec.data import times
from fedrec.data.columns import LogColumns
from fedrec.data.ids import how_read, ids, widened
from fedrec.data.log import Log
from fedrec.data.marks import without
from fedrec.data.places import place
from fedrec.data.spellings import MARKS, likely
from fedrec.data.tables import named, need_columns, read_table
from fedrec.errors import InputError

LARGEST = 9e18
"""Largest absolute value of a time (64 bits, in nanoseconds) and of a rating (32 bits)."""


def read_log(file: Path, columns: LogColumns | None = None) -> Log:
    """Read a user's own log: a table, or a folder with its parts.

    Raises:
        InputError: with the file, the line where known, and the remedy.
    """
    columns = columns or LogColumns()
    events, reading = read_events(read_table(file, columns), file, columns)
    return Log(str(file), events, reading=reading)


def typed_events(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Return the events alone, as `read_events` does, of a table with the usual names."""
    return read_events(table, file, LogColumns())[0]


def read_events(table: pl.DataFrame, file: Path, columns: LogColumns) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read the events of `table`, and describe for readers how each column was read.

    Args:
        table: user_id, item_id and perhaps rating and timestamp, or the names in `columns`.
        file: source of the table, for messages.
        columns: names of columns, and the unit and day order of times where the times alone do not show them.

    Returns:
        user and item (Int64, or text), rating (Float64) and timestamp (Float64 seconds since 1970) where they are.

    Raises:
        InputError: naming the column that is missing, or the row whose id is missing or whose value cannot be used.
    """
    original = table.columns
    table = named(table, file, columns.named)
    table = table.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    need_columns(table, file, "user_id", "item_id")
    found, reading = [], {}
    for name, role in (("user_id", "user"), ("item_id", "item")):
        found.append(ids(table[name], file).alias(role))
        reading[f"ids of {role}s"] = how_read(table[name], found[-1])
    if "rating" in table.columns and columns.rating != "none":
        found.append(_numbers(table["rating"], file))
    if "timestamp" in table.columns and columns.time != "none":
        moments, reading["times"] = times.seconds(
            table["timestamp"], _fault(table["timestamp"], file), columns.unit, columns.day_first
        )
        found.append(moments.alias("timestamp"))
    elif columns.time is None and (other := likely("timestamp", original)):
        raise InputError(
            f"{file}: has no column 'timestamp'. Is it '{other}'? Then set data.columns.time={other}, else "
            "data.columns.time=none: the order of events is not known then"
        )
    return pl.DataFrame(found), reading


def _numbers(column: pl.Series, file: Path) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; make it a number")
    raw = without(column, MARKS) if column.dtype == pl.String else widened(column)
    number = raw.cast(pl.Float64, strict=False)
    beyond = (number.abs() > LARGEST) & number.is_not_nan()
    number = number.set(beyond, None)
    wrong = number.is_null() & raw.is_not_null()
    if wrong.any():
        comma = raw.dtype == pl.String and "," in raw.filter(wrong)[0]
        _fault(column, file)(
            wrong, f"is no finite number below {LARGEST:g}" + (" (write a decimal point, not a comma)" if comma else "")
        )
    return number


def _fault(column: pl.Series, file: Path) -> times.Fault:
    """Raises an InputError for the first cell of `column` where the given series is true."""

    def fault(wrong: pl.Series, why: str) -> NoReturn:
        raise InputError(f"{place(file, wrong)}: '{column.name}' = '{column.filter(wrong)[0]}' {why}; mend or drop it")

    return fault
