"""One sentence an item from several columns of a catalogue: "Title: Heat; year: 1995; genres: Action, Crime"."""

from collections.abc import Sequence
from typing import Any

import polars as pl

LONGEST = 20_000
"""Characters of a sentence that are kept; encoders read a few thousand at most."""


def sentences(table: pl.DataFrame, columns: Sequence[str]) -> list[str | None]:
    """Write the named columns of each row as one sentence, in this order.

    Empty cells are left out. Numbers without a fraction are written without one, lists with commas, white space is
    one space.

    Args:
        table: the items.
        columns: columns of text, numbers, or lists of either.

    Returns:
        (items,) sentences; None where all cells of a row are empty.
    """
    cells = [table[name].to_list() for name in columns]
    return [_sentence(columns, row) for row in zip(*cells, strict=True)]


def _sentence(columns: Sequence[str], row: Sequence[Any]) -> str | None:
    parts = [f"{_label(name)}: {text}" for name, cell in zip(columns, row, strict=True) if (text := _text(cell))]
    whole = "; ".join(parts)[:LONGEST]
    return whole[:1].upper() + whole[1:] if parts else None


def _label(column: str) -> str:
    return " ".join(column.replace("_", " ").split()).lower()


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, list):
        return ", ".join(text for each in cell if (text := _text(each)))
    return " ".join(str(cell).split())
