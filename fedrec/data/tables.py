"""Readers of plain tables: parquet, CSV, TSV, text and JSON lines, packed or in parts.

Text files are read as text and converted afterwards, so that an error names the line of a value that does not fit.
"""

import codecs
import contextlib
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from fedrec.data.columns import Column, TextFormat, hint
from fedrec.data.containers import FORMATS, JSON, PARQUET, content, existing, kind, opened, parts
from fedrec.errors import InputError, first_line, nearest

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_START = 1 << 16  # bytes that hold the first line
_GUESSED = ("\t", ",", ";", "|", "::")

_MOVIELENS = {"userId": "user_id", "movieId": "item_id"}
"""MovieLens' own names -> the usual names."""


def read_table(file: Path, text: TextFormat | None = None) -> pl.DataFrame:
    """Read a table in any of `FORMATS`, or a folder of its parts. Without a header, columns are named `1`, `2`, ...

    Raises:
        InputError: when the file cannot be read, or its format is not known.
    """
    text = text or TextFormat()
    if file.is_dir():
        return _joined({part: read_table(part, text) for part in parts(file)})
    ending = kind(file)
    if ending == PARQUET:
        return read_parquet(file)
    if ending in JSON:
        return read_json(file)
    if ending not in FORMATS:
        raise InputError(
            f"{file}: format not recognised; fedrec reads {', '.join(FORMATS)} (also .gz and .zip) and RecBole .inter"
        )
    first = _first_line(file, text.encoding)
    separator = text.separator or _separator(file, ending, first)
    quoted = ending == ".csv" or '"' in first
    table = read_delimited(file, separator, encoding=text.encoding, header=text.header, quoted=quoted)
    return table if not text.header else table.rename({name: name.strip() for name in table.columns})


def _joined(tables: dict[Path, pl.DataFrame]) -> pl.DataFrame:
    (_, first), *_ = tables.items()
    for part, table in tables.items():
        if table.columns != first.columns:
            raise InputError(
                f"{part}: has the columns {table.columns}, and the first part {first.columns}; name the one file that "
                "is the log"
            )
    try:
        return pl.concat(tables.values(), how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        folder = next(iter(tables)).parent
        raise InputError(f"{folder}: its parts have columns of other types ({first_line(error)}); mend one") from None


def _first_line(file: Path, encoding: str) -> str:
    """Return the first line that is not empty. Bytes that are no text in this encoding are reported by a later step."""
    with opened(existing(file)) as stream:
        start = stream.read(_START)
    usual = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        text = codecs.getincrementaldecoder(usual)(errors="replace").decode(start)
    except (UnicodeError, LookupError):  # a codec that reads whole texts alone
        return ""
    return (text.lstrip("\r\n").splitlines() or [""])[0]


def _separator(file: Path, ending: str, line: str) -> str:
    """Return the separator of `line`: that of the ending, or the only usual one that occurs in it."""
    usual = _SEPARATORS.get(ending)
    if usual is not None and usual in line:
        return usual
    found = [sign for sign in _GUESSED if sign in line] or [" "] * (" " in line.strip())
    if len(found) == 1:
        return found[0]
    if usual is not None:
        return usual
    raise InputError(f"{file}: separator of columns not recognised; set data.columns.separator")


def read_json(file: Path) -> pl.DataFrame:
    """Read JSON lines (an object a row), or one JSON array of objects.

    Raises:
        InputError: with the line that is no object.
    """
    data = content(file).removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise InputError(_no_rows(file))
    try:
        if data.lstrip()[:1] == b"[":
            table = pl.read_json(io.BytesIO(data), infer_schema_length=None)
        else:
            table = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(f"{file}{_broken_json(data)}: not JSON lines, an object a row ({first_line(error)})") from None
    if table.is_empty():
        raise InputError(_no_rows(file))
    return table


def _broken_json(data: bytes) -> str:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            whole = not line.strip() or isinstance(json.loads(line), dict)
        except ValueError:
            whole = False
        if not whole:
            return f", line {number}"
    return ""


def named(table: pl.DataFrame, file: Path, given: Mapping[str, Column]) -> pl.DataFrame:
    """Rename the columns of `given` (usual name -> column) and MovieLens' columns to their usual names.

    Raises:
        InputError: when the table lacks one of `given`.
    """
    wanted = {usual: _found(column, table.columns) for usual, column in given.items() if column != "none"}
    for usual, column in wanted.items():
        if column not in table.columns:
            raise InputError(f"{file}: has no column '{column}' to be the {usual}.{nearest(column, table.columns)}")
    for name, usual in _MOVIELENS.items():
        if name in table.columns and usual not in table.columns:
            wanted.setdefault(usual, name)
    table = table.drop(usual for usual, column in wanted.items() if usual in table.columns and column != usual)
    return table.rename({column: usual for usual, column in wanted.items()})


def _found(column: Column, columns: Sequence[str]) -> str:
    """Return the name of a column that is given by its name or its position from 1."""
    place = str(column)
    by_place = place not in columns and place.isdecimal() and 1 <= int(place) <= len(columns)
    return columns[int(place) - 1] if by_place else place


def need(folder: Path, *names: str) -> None:
    """Check that `folder` has every file of `names`.

    Raises:
        InputError: with the first file that `folder` lacks.
    """
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder}: '{name}' is missing; put the dataset's files there")


def need_columns(table: pl.DataFrame, file: Path, *names: str, settings: str = "data.columns") -> None:
    """Raises: InputError naming the first column that `table` lacks, and the one that is likely meant.

    settings: the table of a scenario that gives other names to columns.
    """
    for name in names:
        if name not in table.columns:
            others = [column for column in table.columns if column not in names]
            raise InputError(f"{file}: needs a column '{name}'.{hint(name, others, settings)}")


def read_parquet(file: Path, columns: tuple[str, ...] | None = None) -> pl.DataFrame:
    """Read a parquet file, or only `columns` of it.

    Raises:
        InputError: when the file is not parquet, is empty, or lacks a column.
    """
    packed = existing(file).suffix.lower() in (".gz", ".zip")
    try:
        table = pl.read_parquet(io.BytesIO(content(file)) if packed else file)
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
    *,
    header: bool = True,
    quoted: bool | None = None,
) -> pl.DataFrame:
    """Read a delimited text file, perhaps packed, with every column as text.

    Args:
        file: the file.
        separator: text between two columns.
        columns: names of the columns of a file without a header.
        encoding: encoding of the text.
        kinds: types of columns of a large file, used directly if all values fit; otherwise the column is text.
        header: False if the first line is data; columns without names then have their position, from 1, as name.
        quoted: whether fields may be in quotes; None allows it where commas separate fields.

    Raises:
        InputError: when the file is missing, empty, not text, or a line has too many fields.
    """
    if kinds and existing(file):
        with contextlib.suppress(pl.exceptions.PolarsError):  # the second pass reports it with its line
            table = pl.read_csv(file, separator=separator, schema_overrides=kinds)
            if table.tail(1).drop_nulls().height:  # an empty last line is a row here, but not in a text column
                return table
    text = _decoded(content(file), file, encoding).rstrip("\r\n")
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")  # line ends of old programs
    if not text.strip():
        raise InputError(f"{file}: is empty; put the data there, or name another file")
    quote = '"' if quoted or (quoted is None and separator == ",") else None
    header = header and columns is None
    if len(separator.encode()) > 1:
        text, separator = text.replace(separator, "\x1f"), "\x1f"
    try:
        table = pl.read_csv(
            text.encode(),
            separator=separator,
            has_header=header,
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
    if not header and columns is None:
        table.columns = [str(number) for number in range(1, len(table.columns) + 1)]
    twice = [name.removesuffix("_duplicated_0") for name in table.columns if name.endswith("_duplicated_0")]
    if twice and twice[0] in table.columns:
        raise InputError(f"{file}, line 1: two columns are called '{twice[0]}'; rename or drop one")
    return table


def _decoded(data: bytes, file: Path, encoding: str) -> str:
    """Decode `data` without a byte-order mark. Raises: InputError for bytes that are no text in this encoding."""
    encoding = codecs.lookup(encoding).name
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if encoding == "utf-16" and not wide:
        raise InputError(f"{file}: not a text file in utf-16 (no byte-order mark); mend data.columns.encoding")
    if encoding == "utf-8":
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        usual = encoding.removesuffix("-sig")
        raise InputError(
            f"{file}: not a text file in {usual} (byte {getattr(error, 'start', 0)}); save it as utf-8, or set "
            f"data.columns.encoding{'=utf-16' if wide else ''}"
        ) from None


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
