"""Times of events: every usual spelling becomes seconds since 1970 (UTC), rounded to the microsecond.

| spelling | read as |
|---|---|
| number | seconds, milliseconds, microseconds or nanoseconds since 1970, by the range of the whole column |
| `20200131`, `20200131101112` | a date, where every cell is one |
| `2020-01-31`, `2020/01/31 10:11`, `20200131T101112Z`, `2020-01-31 10:11:12.5 +0200` | as ISO 8601; else UTC |
| `31/01/2020`, `01/31/2020 10:11 PM` | where one cell is above 12, or `data.columns.day_first` decides |
| Date, Datetime (parquet) | as typed; without a zone UTC |

Two units, two orders of day and month, or cells with and without a zone in one column are refused.
"""

from collections.abc import Callable
from typing import NoReturn

import polars as pl

from fedrec.data.columns import Unit
from fedrec.data.ids import exact_bits, widened
from fedrec.data.marks import without
from fedrec.data.spellings import MARKS

_PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_BELOW: dict[Unit, float] = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": 9e18}
"""Upper bound of numbers in each unit. Each unit covers the years 1973 to 5138; seconds also cover earlier years."""
NAMES: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_MICRO = 10**6

_YEAR_FIRST = r"(?<y>\d{4})(?:[-/.](?<m>\d{1,2})[-/.](?<d>\d{1,2})|(?<m2>\d{2})(?<d2>\d{2}))"
_YEAR_LAST = r"(?<a>\d{1,2})[-/.](?<b>\d{1,2})[-/.](?<y2>\d{4})"
_CLOCK = r"(?<H>\d{1,2}):?(?<M>\d{2})(?::?(?<S>\d{2})(?:[.,](?<f>\d+))?)?(?: ?(?<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r"(?<z>[Zz]|UTC|GMT|utc|gmt|[+-]\d{2}(?::?\d{2})?)"
_MOMENT = rf"^(?:{_YEAR_FIRST}|{_YEAR_LAST})(?:[Tt_ ] ?{_CLOCK} ?{_ZONE}?)?$"

Fault = Callable[[pl.Series, str], NoReturn]
"""Raises an InputError with the first row at which the series (of all rows) is true, and the reason."""


def seconds(
    column: pl.Series, fault: Fault, unit: Unit | None = None, day_first: bool | None = None
) -> tuple[pl.Series, str]:
    """Convert `column` to seconds since 1970, and describe how it was read.

    Args:
        column: (rows,) numbers, text, dates or date-times; null for a missing time.
        fault: reports a cell that cannot be used.
        unit: unit of numbers; None recognises it.
        day_first: order of day and month in dates that end with the year; None recognises it.

    Returns:
        (rows,) Float64 seconds since 1970, null as in `column`; and a line for readers on how they were read.

    Raises:
        InputError: with the first cell that is no time, or has another unit or order than the others.
    """
    if column.dtype == pl.Date or column.dtype == pl.Datetime:
        return _typed(column)
    if column.dtype == pl.String:
        column = without(column, MARKS)
        if column.str.contains(r"^\d{1,4}[-/.]\d{1,2}[-/.]|^\d{8}[Tt ]").any():
            return _written(column, fault, day_first)
        column = _numeric(column, fault)
    elif not (column.dtype.is_numeric() or column.dtype == pl.Null):
        fault(column.is_not_null(), f"is {column.dtype}; make the column a time or a number")
    if column.dtype.is_float() and exact_bits(column.dtype) < 53:
        lossy = (column.abs().cast(pl.Float64) >= 2 ** exact_bits(column.dtype)).fill_null(False)
        if lossy.any():
            fault(lossy, f"is a {column.dtype}, which has lost seconds; save the column as Float64 or Int64")
        column = widened(column)
    if column.dtype.is_float() or column.dtype.is_decimal():
        column = column.cast(pl.Float64).fill_nan(None)
    compact = None if unit else _compact(column)
    return (compact, "dates written as numbers, UTC") if compact is not None else _since_1970(column, fault, unit)


def _typed(column: pl.Series) -> tuple[pl.Series, str]:
    zone = getattr(column.dtype, "time_zone", None)
    how = "dates" if column.dtype == pl.Date else f"date-times, {zone or 'taken as UTC'}"
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    nano = isinstance(column.dtype, pl.Datetime) and column.dtype.time_unit == "ns"
    micro = (column.dt.epoch("ns") + 500) // 1000 if nano else column.dt.epoch("us")
    return _in_seconds(micro), how


def _numeric(column: pl.Series, fault: Fault) -> pl.Series:
    """Convert text to whole numbers if every cell is one (64 bits are exact), else to floats."""
    whole = column.cast(pl.Int64, strict=False)
    number = whole if whole.null_count() == column.null_count() else column.cast(pl.Float64, strict=False)
    wrong = number.is_null() & column.is_not_null()
    if wrong.any():
        fault(wrong, "is no time; write 2020-01-31T10:11:12Z, or seconds since 1970")
    return number


def _compact(column: pl.Series) -> pl.Series | None:
    """Convert numbers such as 20200131 or 20200131101112 to times; None unless all are such numbers."""
    known = column.drop_nulls()
    lowest, highest = known.min(), known.max()
    for pattern, low, high in (("%Y%m%d", 19700101, 21001231), ("%Y%m%d%H%M%S", 19700101 * 10**6, 21001232 * 10**6)):
        if isinstance(lowest, int | float) and isinstance(highest, int | float) and low <= lowest <= highest <= high:
            whole = column.cast(pl.Int64)
            if column.dtype.is_float() and (whole != column).any():
                return None
            moments = whole.cast(pl.String).str.to_datetime(pattern, strict=False, time_unit="us")
            return None if moments.null_count() > column.null_count() else _in_seconds(moments.dt.epoch("us"))
    return None


def _since_1970(column: pl.Series, fault: Fault, unit: Unit | None) -> tuple[pl.Series, str]:
    size = column.cast(pl.Float64).abs()
    beyond = (size > _BELOW["ns"]).fill_null(False)
    if beyond.any():
        fault(beyond, f"is no finite number below {_BELOW['ns']:g}")
    largest = size.max()
    highest = float(largest) if isinstance(largest, int | float) else 0.0
    chosen = _unit(highest) if unit is None else unit
    if unit is None and chosen != "s":
        other = ((size > 0) & (size < _BELOW[_unit_below(chosen)])).fill_null(False)
        if other.any():
            fault(
                other,
                f"is no time in {NAMES[chosen]} as the largest is; write all in one unit, or set "
                f"data.columns.unit='{chosen}' where they are",
            )
    per = _PER_SECOND[chosen]
    if column.dtype.is_integer() and chosen == "ns":
        micro = (column.cast(pl.Int64) + 500) // 1000
    elif column.dtype.is_integer() and highest * (_MICRO / per) < 2**62:
        micro = column.cast(pl.Int64) * (_MICRO // per)
    else:
        micro = (column.cast(pl.Float64) * (_MICRO / per)).round()
    return _in_seconds(micro), f"{NAMES[chosen]} since 1970"


def _in_seconds(micro: pl.Series) -> pl.Series:
    # NumPy divides; Polars multiplies by the reciprocal, which rounds differently.
    return pl.Series(micro.name, micro.cast(pl.Float64).to_numpy() / _MICRO).fill_nan(None)


def _unit(highest: float) -> Unit:
    return next((name for name, limit in _BELOW.items() if highest < limit), "ns")


def _unit_below(unit: Unit) -> Unit:
    units = list(_BELOW)
    return units[units.index(unit) - 1]


def _written(text: pl.Series, fault: Fault, day_first: bool | None) -> tuple[pl.Series, str]:
    cells = text.str.extract_groups(_MOMENT).struct.unnest()
    unread = text.is_not_null() & (cells["y"].is_null() & cells["y2"].is_null())
    if unread.any():
        fault(unread, "is no time like the others; write 2020-01-31T10:11:12Z, or seconds since 1970")
    day_first, order = _day_first(cells, text, fault, day_first)
    day, month = ("a", "b") if day_first else ("b", "a")
    hour = pl.col("H").cast(pl.Int64)
    afternoon = pl.col("half").str.to_lowercase() == "p"
    hour = pl.when(pl.col("half").is_null()).then(hour).otherwise(hour % 12 + pl.when(afternoon).then(12).otherwise(0))
    seconds_ahead = _offset(pl.col("z"))
    found = cells.select(
        pl.concat_str(
            pl.coalesce("y", "y2"),
            pl.coalesce("m", "m2", month).str.zfill(2),
            pl.coalesce("d", "d2", day).str.zfill(2),
            hour.fill_null(0).cast(pl.String).str.zfill(2),
            pl.col("M").fill_null("00"),
            pl.col("S").fill_null("00"),
        )
        .str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us")
        .alias("moment"),
        ((pl.col("f").fill_null("0").str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64) + 500) // 1000).alias("micro"),
        seconds_ahead.fill_null(0).alias("ahead"),
        (pl.col("half").is_not_null() & ~pl.col("H").cast(pl.Int64).is_between(1, 12)).alias("odd"),
    )
    wrong = text.is_not_null() & (found["moment"].is_null() | found["odd"].fill_null(False))
    if wrong.any():
        fault(wrong, "is no day or time that exists; mend or drop it")
    zoned = cells["z"].is_not_null()
    if zoned.any() and (text.is_not_null() & ~zoned).any():
        fault(text.is_not_null() & ~zoned, "has no time zone and others have one; write it into all or none")
    micro = (found["moment"].dt.epoch("us") - found["ahead"] * _MICRO) + found["micro"]
    return _in_seconds(micro), f"dates as text{order}, {'with their time zone' if zoned.any() else 'taken as UTC'}"


def _offset(zone: pl.Expr) -> pl.Expr:
    """Return the offset in seconds of a zone such as `+02:00` from UTC; null without a zone."""
    digits = zone.str.replace(":", "").str.extract(r"^[+-](\d+)$").str.pad_end(4, "0")
    size = digits.str.slice(0, 2).cast(pl.Int64) * 3600 + digits.str.slice(2, 2).cast(pl.Int64) * 60
    return pl.when(zone.str.starts_with("-")).then(-size).otherwise(size)


def _day_first(cells: pl.DataFrame, text: pl.Series, fault: Fault, given: bool | None) -> tuple[bool, str]:
    """Return whether the day is first in dates that end with the year, and a remark on it for readers."""
    first, second = (cells[name].cast(pl.Int64) for name in ("a", "b"))
    year_last = first.is_not_null()
    if not year_last.any():
        return False, ""
    if given is None:
        days_first, days_second = (first > 12).any(), (second > 12).any()
        if not (days_first or days_second) and (first != second).any():
            fault((first != second).fill_null(False), "may be two days: set data.columns.day_first to true or false")
        given = bool(days_first)
    wrong = ((second if given else first) > 12).fill_null(False)
    if wrong.any():
        fault(wrong, "has day and month in another order than others; write 2020-01-31")
    if (year_last != text.is_not_null()).any():
        fault(text.is_not_null() & ~year_last, "is written in another order than others; write 2020-01-31 in all")
    return given, f", {'day' if given else 'month'} first"
