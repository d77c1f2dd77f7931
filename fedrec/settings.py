"""Frozen, typed settings: one line of description per field, unknown keys are errors that name the nearest."""

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fedrec.errors import InputError
from fedrec.setting_hints import did_you_mean, not_allowed


class Settings(BaseModel):
    """Base of every settings object: immutable, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    older_names: ClassVar[Mapping[str, str]] = {}
    """Names that settings had in older versions -> their names now. Both are read, only the latter are written."""

    older_values: ClassVar[Mapping[str, Any]] = {}
    """Settings that the text of an older run may lack -> what such a run did. Their defaults are other values."""

    @classmethod
    def renamed(cls, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The settings in `values` under their names of today.

        where: names the source (a file, a section) in the error.
        Raises: InputError where one setting is given under both of its names.
        """
        for older, name in cls.older_names.items():
            if older in values and name in values:
                raise InputError(f"{where}: '{older}' is the older name of '{name}'; leave one of them out")
        return {cls.older_names.get(name, name): value for name, value in values.items()}

    @model_validator(mode="before")
    @classmethod
    def _names_of_today(cls, given: Any) -> Any:
        return cls.renamed(given, cls.__name__) if isinstance(given, Mapping) else given


S = TypeVar("S", bound=Settings)


def parse(kind: type[S], values: Mapping[str, Any], where: str, elsewhere: Iterable[str] = ()) -> S:
    """Build `kind` from `values`; `where` names the source (a file, a section) in the one-line error.

    elsewhere: dotted names of settings that the source has besides those of `kind`, for the hint on an unknown one.

    Raises:
        InputError: naming the first offending key, its value and what is allowed.
    """
    values = kind.renamed(values, where)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            place = tuple(map(str, first["loc"]))
            hint = did_you_mean(kind, place, elsewhere)
            raise InputError(f"{where}: unknown key '{'.'.join(place)}'.{hint}") from None
        name, fault = not_allowed(kind, error.errors())
        if first["type"] == "value_error" and not first["loc"]:  # a rule over several settings
            raise InputError(f"{where}: {fault}") from None
        given = "" if first["type"] == "missing" else f" = {first['input']!r}"
        raise InputError(f"{where}: '{name}'{given}: {fault}" if given else f"{where}: '{name}' {fault}") from None


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
    """Set the dotted `key` in nested `values`, in place.

    Raises:
        InputError: when a section on the way is a value.
    """
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{where}: '{section}' is a value, not a section")
    values[last] = value
