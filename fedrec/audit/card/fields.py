"""Typed reading of a record's fields, by the standard library alone: wrong types and sizes are refused, never guessed.

The ledger's own types (`fedrec.audit.entries`) are pydantic models, which a small device need not install.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

MOST_TEXT = 4096
"""Characters of a name or a sentence."""
MOST_COUNT = 2**63 - 1
_HASH = re.compile("[0-9a-f]{64}")
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?(e[-+]?[0-9]{1,3})?")


class FieldError(ValueError):
    """A field that is missing, of another type, or out of bounds. The message names the field, never its value."""


def table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object in the field. Raises: FieldError."""
    value = values.get(name)
    if not isinstance(value, dict):
        raise FieldError(f"'{name}' is no object")
    return value


def items(values: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """Return the list in the field, of at most `most` entries. Raises: FieldError."""
    value = values.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise FieldError(f"'{name}' is no list of at most {most}")
    return value


def text(values: Mapping[str, Any], name: str, most: int = MOST_TEXT) -> str:
    """Return the text in the field. Raises: FieldError."""
    value = values.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise FieldError(f"'{name}' is no text of at most {most} characters")
    return value


def digest(values: Mapping[str, Any], name: str) -> str:
    """Return the SHA-256 (64 hexadecimal digits) in the field. Raises: FieldError."""
    value = text(values, name)
    if not _HASH.fullmatch(value):
        raise FieldError(f"'{name}' is no SHA-256")
    return value


def count(values: Mapping[str, Any], name: str, most: int = MOST_COUNT) -> int:
    """Return the whole number from 0 to `most` in the field. Raises: FieldError."""
    value = values.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise FieldError(f"'{name}' is no whole number from 0 to {most}")
    return value


def flag(values: Mapping[str, Any], name: str) -> bool:
    """Return the truth value in the field. Raises: FieldError."""
    value = values.get(name)
    if type(value) is not bool:
        raise FieldError(f"'{name}' is neither true nor false")
    return value


def decimal(values: Mapping[str, Any], name: str) -> float:
    """Return the number in the field, written as text, finite and not negative. Raises: FieldError."""
    value = text(values, name, 40)
    if not _DECIMAL.fullmatch(value) or not math.isfinite(float(value)):
        raise FieldError(f"'{name}' is no finite number")
    return float(value)


def decimal_or_none(values: Mapping[str, Any], name: str) -> float | None:
    """Return the number in the field, or None for null. Raises: FieldError."""
    return None if name in values and values[name] is None else decimal(values, name)
