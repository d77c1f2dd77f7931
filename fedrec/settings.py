"""Frozen, typed settings: one line of description per field, unknown keys are errors that name the nearest."""

import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedrec.errors import InputError, nearest


class Settings(BaseModel):
    """Base of every settings object: immutable, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def parse(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """Build `kind` from `values`; `where` names the source (a file, a section) in the one-line error.

    Raises: InputError naming the first offending key, its value and what is allowed.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"{where}: unknown key '{path}'.{nearest(str(first['loc'][-1]), _fields(kind, first['loc'][:-1]))}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: '{path}' = {first['input']!r}: {message}") from None


def parse_change(text: str) -> tuple[str, Any]:
    """`key=value` from `--set`: the value as TOML, or a text where it is no TOML (a bare word, a path)."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise InputError(f"--set {text}: must be key=value, e.g. --set privacy.epsilon=3")
    return key.strip(), toml_or_text(value)


def toml_or_text(value: str) -> Any:
    """The value as TOML, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value.strip()


def put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set the dotted `key` in nested `values`, in place. Raises: InputError when a section on the way is a value."""
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{where}: '{section}' is a value, not a section")
    values[last] = value


def _fields(kind: Any, path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(str(part)) if hasattr(kind, "model_fields") else None
        if field is None:
            return []
        kind = field.annotation
    return list(getattr(kind, "model_fields", {}))
