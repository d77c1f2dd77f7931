"""The place of a row for messages: the line of a text file, or the row of another one, with the part of a folder."""

from pathlib import Path

import polars as pl

from fedrec.data.containers import JSON, PARQUET, kind, opened, parts
from fedrec.data.tables import read_table


def place(file: Path, wrong: pl.Series) -> str:
    """Return the file and the first line (of text) or row (from 1) at which `wrong` is true.

    A text with more lines than rows has a header. For a folder, the part is named.

    Args:
        file: the file that was read, or a folder of parts.
        wrong: (rows,) bool over all rows of the file.
    """
    row = int(wrong.arg_max() or 0)
    if file.is_dir():
        return _place_in_parts(file, row)
    if not file.exists():  # a table in memory
        return f"{file}, row {row + 1}"
    ending = kind(file)
    if ending in (PARQUET, ".json"):
        return f"{file}, row {row + 1}"
    starts, last, within = [], 0, False
    with opened(file) as stream:
        for number, line in enumerate(stream, 1):
            blank = not line.strip(b"\r\n")
            if ending in JSON and blank:
                continue
            if not within:
                starts.append(number)
            last = last if blank else len(starts)
            within ^= ending == ".csv" and line.count(b'"') % 2 == 1  # a quoted field runs over the line's end
    index = row + (last > len(wrong))
    return f"{file}, line {starts[index]}" if index < len(starts) else f"{file}, row {row + 1}"


def _place_in_parts(folder: Path, row: int) -> str:
    for part in parts(folder):
        rows = len(read_table(part))
        if row < rows:
            return place(part, pl.Series(range(rows)) == row)
        row -= rows
    return str(folder)
