"""Marks of a missing value, as programs write them; all in lower case."""

import polars as pl

PLAIN = ("", "\\n", "nan", "null", "n/a", "<na>", "#n/a")
"""In text and labels: nothing else is written so."""
OF_IDS = (*PLAIN, "na", "none")
"""Among ids."""
MARKS = (*OF_IDS, "n.a.", "nil", "-", "--", "?", ".", "unknown", "missing", "undefined", "not available")
"""Among numbers and dates."""


def without(column: pl.Series, marks: tuple[str, ...], further: tuple[str, ...] = ()) -> pl.Series:
    """Text without the whitespace around it, null at each of the marks.

    Args:
        column: text, (rows,).
        marks: in lower case.
        further: marks of one's own, in any case.

    Returns:
        (rows,) text.
    """
    text = column.str.strip_chars()
    gone = text.str.to_lowercase().is_in([*marks, *(mark.strip().lower() for mark in further)])
    return text.set(gone.fill_null(False), None)
