"""Types of the columns of a catalogue file: numbers, dates, labels or text. A few stray cells never make it text.

| cells of a text column | becomes |
|---|---|
| numbers, beside marks of a missing value (`MARKS`) | numbers, unknown where there is a mark |
| dates, in any spelling that times of events may have | years with their fraction: 1995-07-02 is 1995.5 |
| some with `\\|` in them | lists of labels |
| at least `MOST` of them numbers (or dates), the others none | refused, with line and value |
| some that occur `REPEATED` times on average | one label an item |
| anything else | text |

`data.catalogue_columns.missing` adds marks, `data.catalogue_columns.text` names columns that stay text. `title` always
does.
"""

from pathlib import Path
from typing import NoReturn

import polars as pl

from fedrec.data import times
from fedrec.data.columns import CatalogueColumns
from fedrec.data.marks import without
from fedrec.data.places import place
from fedrec.data.spellings import MARKS, PLAIN
from fedrec.errors import InputError

MOST = 0.8
"""Share of numbers (or dates) among the known cells from which a column counts as numbers (or dates)."""

REPEATED = 5
"""Text that is written this often on average is a label: words that many items share say nothing as text."""

_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_NUMERIC = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"


def feature(column: pl.Series, file: Path, columns: CatalogueColumns | None = None) -> pl.Series:
    """Convert `column` (rows,) to the type of its cells.

    Args:
        column: as it was read, text or typed.
        file: where it comes from, for messages.
        columns: further marks of missing values, and which columns are text.

    Returns:
        (rows,) Float64, text or lists of text; null where unknown. Other types of parquet as they are.

    Raises:
        InputError: with line and value of a cell that differs in type from nearly all others.
    """
    columns = columns or CatalogueColumns()
    if column.name == "title" or column.name in columns.text:
        return column
    if column.dtype == pl.Date or column.dtype == pl.Datetime:
        return _years(column, file)
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return column
    known = without(column, MARKS, columns.missing)
    if known.is_not_null().any():
        numeric, dated = (known.str.contains(pattern).fill_null(False) for pattern in (_NUMERIC, _DATE))
        labels = (known.str.contains("|", literal=True) | numeric | known.is_null()).all() and not numeric.all()
        if not labels or not known.str.contains("|", literal=True).any():
            if _all_but_few(numeric, known, file, "number"):
                return known.cast(pl.Float64)
            if _all_but_few(dated, known, file, "date"):
                return _years(known, file)
    plain = without(column, PLAIN, columns.missing)
    if column.str.contains("|", literal=True).any():
        return plain.str.split("|")
    values = plain.drop_nulls()
    if len(values) and len(values) >= REPEATED * values.n_unique():
        return pl.select(pl.when(plain.is_not_null()).then(pl.concat_list(plain))).to_series().alias(column.name)
    return column.set(plain.is_null(), None)


def numbers(column: pl.Series, file: Path) -> pl.Series:
    """Convert a column that must hold numbers to (rows,) Float64, null at marks of a missing value.

    Raises:
        InputError: with line and value of a cell that is no number.
    """
    if column.dtype != pl.String:
        return column.cast(pl.Float64)
    known = without(column, MARKS)
    wrong = known.is_not_null() & ~known.str.contains(_NUMERIC).fill_null(True)
    if wrong.any():
        _refuse(wrong, column, file, "is no number; mend it, or leave the cell empty where it is unknown")
    return known.cast(pl.Float64)


def _all_but_few(fits: pl.Series, known: pl.Series, file: Path, kind: str) -> bool:
    """Return whether every known cell `fits`. Raises: InputError if nearly all of them do."""
    wrong = known.is_not_null() & ~fits
    count, several = int(fits.sum()), int(known.is_not_null().sum())
    if wrong.any() and count >= MOST * several:
        _refuse(
            wrong,
            known,
            file,
            f"is no {kind}, and {count:,} of {several:,} others are; mend it, or give data.catalogue_columns.missing="
            f"'[\"{known.filter(wrong)[0]}\"]' where it means unknown, or data.catalogue_columns.text="
            f"'[\"{known.name}\"]' for a column of text",
        )
    return not wrong.any()


def _refuse(wrong: pl.Series, column: pl.Series, file: Path, why: str) -> NoReturn:
    raise InputError(f"{place(file, wrong)}: '{column.name}' = '{column.filter(wrong)[0]}' {why}")


def _years(column: pl.Series, file: Path) -> pl.Series:
    """Convert dates or date-times to years with their fraction, (rows,) Float64."""

    def fault(wrong: pl.Series, why: str) -> NoReturn:
        _refuse(wrong, column, file, f"{why}; mend it, or keep the column with data.catalogue_columns.text")

    seconds, _ = times.seconds(column, fault)
    moment = (seconds * 1e6).cast(pl.Int64).cast(pl.Datetime("us"))
    start = moment.dt.truncate("1y")
    length = (start.dt.offset_by("1y") - start).dt.total_seconds()
    return (moment.dt.year() + (moment - start).dt.total_seconds() / length).cast(pl.Float64).alias(column.name)
