"""Cells whose text marks a missing value."""

import polars as pl


def without(column: pl.Series, marks: tuple[str, ...], further: tuple[str, ...] = ()) -> pl.Series:
    """Strip whitespace around text, and replace each mark by null.

    Args:
        column: text, (rows,).
        marks: in lower case.
        further: the user's own marks, in any case.

    Returns:
        (rows,) text.
    """
    text = column.str.strip_chars()
    gone = text.str.to_lowercase().is_in([*marks, *(mark.strip().lower() for mark in further)])
    return text.set(gone.fill_null(False), None)
