"""Tables of private attributes of users, as they are read: see `fedrec.data.people`. Without PyTorch."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from fedrec.data.columns import LogColumns
from fedrec.data.ids import ids
from fedrec.data.log import Log
from fedrec.data.marks import without
from fedrec.data.places import place
from fedrec.data.spellings import MARKS
from fedrec.data.tables import named, need_columns, read_delimited, read_table
from fedrec.errors import InputError

_NUMBER = r"^[+-]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?$"


def read_people(file: Path, columns: LogColumns | None = None) -> pl.DataFrame:
    """Read a table of users: `user` and their attributes, each column numbers (Float64) or text, null where unknown.

    Args:
        file: in a format of `fedrec.data.tables.read_table`, or a RecBole `.user` file.
        columns: format of a text file, and the column of users.

    Raises:
        InputError: with the file, the line where known, and the remedy; never with the value of an attribute.
    """
    columns = columns or LogColumns()
    if file.suffix.lower() != ".user":
        return typed_people(read_table(file, columns), file, columns)
    table = read_delimited(file, "\t")
    return typed_people(table.rename(lambda name: name.partition(":")[0]), file, columns)


def typed_people(table: pl.DataFrame, file: Path, columns: LogColumns) -> pl.DataFrame:
    """Type a table of users in memory, which messages call `file`.

    Raises:
        InputError: as `read_people`.
    """
    own = {} if columns.user is None or "user_id" in table.columns else {"user_id": columns.user}
    table = named(table, file, own)
    need_columns(table, file, "user_id")
    user = ids(table["user_id"], file).alias("user")
    if "user" in table.columns:
        raise InputError(f"{file}: has a column 'user' beside the ids of users; rename or drop one")
    if user.is_duplicated().any():
        raise InputError(f"{place(file, user.is_duplicated())}: a user has two rows; keep one")
    return pl.DataFrame([user, *(_typed(table[name], file) for name in table.columns if name != "user_id")])


def with_people(log: Log, file: Path | None, columns: LogColumns) -> Log:
    """Return the log with the attributes of a file in place of its own; the same log without a file."""
    return log if file is None else replace(log, people=read_people(file, columns))


def _typed(column: pl.Series, file: Path) -> pl.Series:
    """Return an attribute as numbers, where all known cells are, or as text."""
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; an attribute is text or a number")
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Float64)
        return numbers.set(~numbers.is_finite().fill_null(True), None)
    text = without(column.cast(pl.String), MARKS)
    if text.str.contains(_NUMBER).all() and text.str.contains("[0-9]").any():  # `007` is a label
        return text.cast(pl.Float64)
    return text
