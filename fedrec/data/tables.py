"""Plain tables: parquet, CSV and TSV with `user_id,item_id[,rating][,timestamp]`, and the catalogue files beside them.

Text files are read as text and converted afterwards, so that a value that does not fit is reported with its line.
"""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from fedrec.data.log import Log
from fedrec.errors import InputError, first_line, nearest

_SEPARATORS = {".csv": ",", ".tsv": "\t"}

LARGEST = 9e18
"""What fits into the 64 bits of a time, nanoseconds among them, and into the 32 of a rating."""


def read_log(file: Path) -> Log:
    """A `.parquet`, `.csv` or `.tsv` log. Raises: InputError naming the file, the line where known, the remedy."""
    return Log(str(file), typed_events(_read(file), file))


def read_catalogue(file: Path) -> pl.DataFrame:
    """A catalogue file: `item_id` and any features. In CSV, a column of numbers is numeric, one with `|` in it a list
    of labels, any other text. In parquet the types decide, and text with `|` is a list of labels too. `title` stays
    as it is written.

    Raises: InputError as `read_log`.
    """
    table = _read(file)
    need_columns(table, file, "item_id")
    features = [_feature(table[name]) for name in table.columns if name != "item_id"]
    return pl.DataFrame([item_ids(table, "item_id", file), *features])


def item_ids(table: pl.DataFrame, column: str, file: Path) -> pl.Series:
    """The ids of `column` as `item`, a catalogue's name for them. Raises: InputError as `ids`, or where two would have
    that name."""
    if column != "item" and "item" in table.columns:
        raise InputError(f"{file}: has a column 'item' beside '{column}', which is read as 'item'; rename or drop one")
    return ids(table[column], file).alias("item")


def _feature(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String or column.name == "title":
        return column
    number = column.cast(pl.Float64, strict=False)
    if number.null_count() == column.null_count() and number.is_not_null().any():
        return number
    return column.str.split("|") if column.str.contains("|", literal=True).any() else column


def _read(file: Path) -> pl.DataFrame:
    if file.suffix in _SEPARATORS:
        return read_delimited(file, _SEPARATORS[file.suffix])
    if file.suffix == ".parquet":
        return read_parquet(file)
    raise InputError(f"{file}: cannot tell its format; fedrec reads .parquet, .csv, .tsv and RecBole .inter")


def need(folder: Path, *names: str) -> None:
    """Raises: InputError naming the first file that `folder` lacks."""
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder}: '{name}' is missing; put the dataset's files there")


def need_columns(table: pl.DataFrame, file: Path, *names: str) -> None:
    """Raises: InputError naming the first column that `table` lacks, and the nearest that it has."""
    for name in names:
        if name not in table.columns:
            others = [column for column in table.columns if column not in names]
            raise InputError(f"{file}: needs a column '{name}'.{nearest(name, others)}")


def read_parquet(file: Path, columns: tuple[str, ...] | None = None) -> pl.DataFrame:
    """A parquet file, or only `columns` of it. Raises: InputError when it is none, is empty, or lacks a column."""
    try:
        table = pl.read_parquet(_existing(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file}: not a parquet file ({first_line(error)})") from None
    need_columns(table, file, *(columns or ()))
    if table.is_empty():
        raise InputError(_no_rows(file))
    return table.select(columns) if columns else table


def read_delimited(
    file: Path,
    separator: str,
    columns: tuple[str, ...] | None = None,
    encoding: str = "utf-8",
    kinds: dict[str, pl.DataType] | None = None,
) -> pl.DataFrame:
    """A delimited text file, perhaps gzipped, every column as text. `columns` names them where there is no header.

    kinds: what columns of a large file are read as right away, where all of its values are such; as text otherwise.
    Raises: InputError when the file is missing, empty, not text, or a line has too many fields.
    """
    if kinds and _existing(file):
        with contextlib.suppress(pl.exceptions.PolarsError):  # read as text, the fault is found and told with its line
            table = pl.read_csv(file, separator=separator, schema_overrides=kinds)
            if table.tail(1).drop_nulls().height:  # a last line that is empty is a row here, and none as text
                return table
    try:
        text = _bytes(_existing(file)).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file in {encoding} (byte {error.start}); save it as {encoding}") from None
    text = text.rstrip("\r\n")
    if not text.strip():
        raise InputError(f"{file}: is empty; put the data there, or name another file")
    quote = '"' if separator == "," else None
    if len(separator) > 1:
        text, separator = text.replace(separator, "\x1f"), "\x1f"
    try:
        table = pl.read_csv(
            text.encode(),
            separator=separator,
            has_header=columns is None,
            new_columns=columns,
            infer_schema=False,
            quote_char=quote,
        )
    except pl.exceptions.PolarsError as error:
        where = _broken_line(text, separator, quote)
        raise InputError(f"{file}{where}: not a table separated by {separator!r} ({first_line(error)})") from None
    if columns is not None and len(table.columns) != len(columns):
        raise InputError(f"{file}: {len(table.columns)} columns where {len(columns)} are due ({', '.join(columns)})")
    if table.is_empty():
        raise InputError(_no_rows(file))
    return table


def typed_events(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The columns user_id, item_id, rating, timestamp of `table` as user, item, rating, timestamp with their types.

    Raises: InputError naming the column that is missing, or the row whose id is missing or whose number is none.
    """
    need_columns(table, file, "user_id", "item_id")
    columns = [ids(table["user_id"], file).alias("user"), ids(table["item_id"], file).alias("item")]
    if "rating" in table.columns:
        columns.append(_numbers(table["rating"], file))
    if "timestamp" in table.columns:
        columns.append(_seconds(table["timestamp"], file))
    return pl.DataFrame(columns)


def ids(column: pl.Series, file: Path) -> pl.Series:
    """Ids as integers where all are, else as text. Raises: InputError naming the row of a missing or NaN id."""
    if column.dtype.is_nested():
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; ids must be whole numbers or text")
    if column.dtype.is_float():
        column = column.fill_nan(None)
    elif not column.dtype.is_integer():
        column = column.cast(pl.String).str.strip_chars()
        column = column.set(column.str.to_lowercase().is_in(["", "nan", "null", "none"]), None)
    if column.null_count():
        raise InputError(
            f"{_place(file, column.is_null())}: '{column.name}' is missing or NaN; give every row an id or drop it"
        )
    whole = column.cast(pl.Int64, strict=False)
    if column.dtype.is_float() and (whole.null_count() or (whole != column).any()):
        raise InputError(f"{file}: '{column.name}' holds fractions; ids must be whole numbers or text")
    canonical = not whole.null_count() and (column.dtype != pl.String or (whole.cast(pl.String) == column).all())
    return whole if canonical else column


def _numbers(column: pl.Series, file: Path) -> pl.Series:
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; make it a number")
    number = column.cast(pl.Float64, strict=False)
    beyond = (number.abs() > LARGEST) & number.is_not_nan()
    return _checked(column, number.set(beyond, None), f"is no finite number below {LARGEST:g}", file)


def _seconds(column: pl.Series, file: Path) -> pl.Series:
    if column.dtype in (pl.Date, pl.Datetime):
        return column.dt.epoch("s")
    if column.dtype == pl.String and column.str.contains(r"^\d{4}-\d{2}").any():
        moments = column.str.to_datetime(strict=False, time_zone="UTC").dt.epoch("s")
        return _checked(column, moments, "is no time like the others", file)
    return _numbers(column, file)


def _checked(raw: pl.Series, value: pl.Series, fault: str, file: Path) -> pl.Series:
    """`value`, unless it is null where `raw` says something."""
    wrong = value.is_null() & raw.is_not_null() & (raw.cast(pl.String) != "").fill_null(False)
    if wrong.any():
        raise InputError(f"{_place(file, wrong)}: '{raw.name}' = '{raw.filter(wrong)[0]}' {fault}; mend or drop it")
    return value


def _place(file: Path, wrong: pl.Series) -> str:
    """The file and the first place where `wrong` is true, of all rows of the file: a line of text, or a row of parquet
    (from 1). A text with more lines than rows has a header."""
    row = int(wrong.arg_max() or 0)
    if file.suffix == ".parquet":
        return f"{file}, row {row + 1}"
    starts, last, within = [], 0, False
    with opened(file) as stream:
        for number, line in enumerate(stream, 1):
            if not within:
                starts.append(number)
            last = len(starts) if line.strip(b"\r\n") else last
            within ^= ".csv" in file.suffixes and line.count(b'"') % 2 == 1  # a quoted field runs over the line's end
    return f"{file}, line {starts[row + (last > len(wrong))]}"


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if not file.stat().st_size:
        raise InputError(f"{file}: is empty; put the data there, or name another file")
    return file


def _bytes(file: Path) -> bytes:
    with opened(file) as stream:
        return stream.read()


@contextlib.contextmanager
def opened(file: Path) -> Iterator[io.BufferedIOBase]:
    """The bytes of `file`, unpacked where it is a `.gz`. Raises: InputError where that is damaged, also when read."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: not a whole gzip file ({error}); get it again") from None


def _no_rows(file: Path) -> str:
    return f"{file}: has no rows; a log needs at least one event below its column names, a catalogue one item"


def _broken_line(text: str, separator: str, quote: str | None) -> str:
    reader = csv.reader(text.splitlines(), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
    width = 0
    with contextlib.suppress(csv.Error):  # a quote without its end makes a field beyond all limits
        for fields in reader:
            width = width or len(fields)
            if len(fields) > width:
                return f", line {reader.line_num}"
    odd = (number for number, line in enumerate(text.splitlines(), 1) if quote and line.count(quote) % 2)
    return "".join(f", line {number} (a quote without its end)" for number in list(odd)[:1])
