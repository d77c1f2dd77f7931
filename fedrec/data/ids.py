"""Ids of users and items: the same log has the same ids in every file format.

| ids of a column | read as |
|---|---|
| `12`, `12.0`, `-3` in text, floats or integers, all of them whole numbers | whole numbers: `12.0` is 12 |
| one has a leading zero (`007`), or one is no number | text, all of them as written: `007` and `7` are two |
| whole numbers beyond 64 bits | text, without a fraction |
| text | without the whitespace around it, in Unicode's composed form (NFC); upper and lower case differ |

Floats beyond what they hold exactly (2^53 in 64 bits, 2^24 in 32) and numbers such as `1.2E+17` have lost digits and
are refused.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import polars as pl

from fedrec.data.marks import without
from fedrec.data.places import place
from fedrec.data.spellings import OF_IDS
from fedrec.errors import InputError

_WHOLE = r"^-?(?:0|[1-9][0-9]*)(?:\.0*)?$"
_NUMBER = r"^-?[0-9]+(?:\.[0-9]*)?(?:[eE]\+[0-9]+)?$"
_EXACT = {pl.Float64: 53, pl.Float32: 24, pl.Float16: 11}
"""Bits of a whole number that each kind of float holds."""


def ids(column: pl.Series, file: Path) -> pl.Series:
    """Convert ids to Int64 if all are whole numbers, else to text.

    Raises:
        InputError: naming the row of a missing id, or why the column holds none.
    """
    if column.dtype.is_nested() or column.dtype in (pl.Boolean, pl.Duration, pl.Time):
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; ids must be whole numbers or text")
    if column.dtype.is_float():
        return _of_floats(column.fill_nan(None), file)
    if column.dtype.is_integer():
        _none_missing(column, file)
        whole = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if whole.null_count() else whole
    return _of_text(column, file)


def identities(ids: pl.Series) -> np.ndarray:
    """Return (ids,) int64, each from its id alone: the number itself, or a hash of the text."""
    if ids.dtype.is_integer():
        return ids.to_numpy().astype(np.int64)
    return np.array([_of(text) for text in ids.to_list()], dtype=np.int64)


def exact_bits(dtype: pl.DataType) -> int:
    """Return the bits of a whole number that a float of this type holds without loss."""
    return next((bits for kind, bits in _EXACT.items() if dtype == kind), 53)


def widened(column: pl.Series) -> pl.Series:
    """Convert 32-bit floats to Float64 by their shortest decimals, so that 4.1 is 4.1 in any file."""
    return column.cast(pl.String).cast(pl.Float64) if column.dtype == pl.Float32 else column


def how_read(column: pl.Series, found: pl.Series) -> str:
    """Describe for readers how the ids `found` were read from `column`."""
    if found.dtype.is_integer():
        floats = column.dtype.is_float() or (column.dtype == pl.String and column.str.contains(".", literal=True).any())
        return "whole numbers, written as floats" if floats else "whole numbers"
    if found.str.contains(r"^-?0[0-9]").any():
        return "text, since some have leading zeros ('007' and '7' are two)"
    return "text"


def _of_floats(column: pl.Series, file: Path) -> pl.Series:
    _none_missing(column, file)
    if column.is_infinite().any() or (column != column.round()).any():
        raise InputError(f"{file}: '{column.name}' holds fractions; ids must be whole numbers or text")
    bits = exact_bits(column.dtype)
    lossy = column.abs().cast(pl.Float64) >= 2**bits
    if lossy.any():
        raise InputError(
            f"{place(file, lossy)}: '{column.name}' is a {column.dtype} beyond 2^{bits}, where ids lose digits; save "
            "the column as whole numbers or text"
        )
    return column.cast(pl.Int64)


def _of_text(column: pl.Series, file: Path) -> pl.Series:
    try:
        text = without(column.cast(pl.String).str.normalize("NFC"), OF_IDS)
    except pl.exceptions.PolarsError:
        raise InputError(f"{file}: '{column.name}' holds {column.dtype}; ids must be whole numbers or text") from None
    _none_missing(text, file)
    if text.str.contains(_WHOLE).all():
        text = text.str.replace(r"\.0*$", "")
        whole = text.cast(pl.Int64, strict=False)
        return text if whole.null_count() else whole
    if text.str.contains(_NUMBER).all():
        rounded = text.str.contains("[eE]\\+")
        if rounded.any():
            raise InputError(
                f"{place(file, rounded)}: '{column.name}' = '{text.filter(rounded)[0]}' has lost digits, as in a "
                "spreadsheet; write ids in full"
            )
        if text.str.contains(r"\.0*[1-9]").any():
            raise InputError(f"{file}: '{column.name}' holds fractions; ids must be whole numbers or text")
    return text


def _of(text: str) -> int:
    if re.match(_WHOLE, text):
        number = int(text.partition(".")[0])
        if -(2**63) <= number < 2**63:
            return number  # as where every id is a number; `1.0` and `1` are the same
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _none_missing(column: pl.Series, file: Path) -> None:
    if column.null_count():
        raise InputError(
            f"{place(file, column.is_null())}: '{column.name}' is missing or NaN; give every row an id or drop it"
        )
