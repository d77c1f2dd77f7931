"""Marks of a missing value, as programs write them; all in lower case."""

import polars as pl

PLAIN = ("", "\\n", "nan", "null", "n/a", "<na>", "#n/a")
"""Marks in text and labels, where no real value has this spelling."""
OF_IDS = (*PLAIN, "na", "none")
"""Among ids."""
MARKS = (*OF_IDS, "n.a.", "nil", "-", "--", "?", ".", "unknown", "missing", "undefined", "not available")
"""Among numbers and dates."""


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
