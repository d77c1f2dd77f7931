"""Frozen, typed settings: one line of description per field, unknown keys are errors that name the nearest."""

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


def _fields(kind: Any, path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(str(part)) if hasattr(kind, "model_fields") else None
        if field is None:
            return []
        kind = field.annotation
    return list(getattr(kind, "model_fields", {}))
