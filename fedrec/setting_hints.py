"""Messages for wrong settings: the nearest setting, and the allowed values, in fedrec's own words."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from fedrec.errors import nearest


def dotted_names(kind: Any, path: str = "") -> Iterator[str]:
    """Yield every setting of the model `kind`, nested ones with dots: `privacy.epsilon`."""
    for name, inner in _fields(kind).items():
        table = _table(inner.annotation)
        if table is None:
            yield f"{path}{name}"
        else:
            yield from dotted_names(table, f"{path}{name}.")


def did_you_mean(kind: Any, place: tuple[str, ...], elsewhere: Iterable[str] = ()) -> str:
    """A hint for the unknown setting at `place` (its keys from the top): where that name exists, or the nearest one.

    elsewhere: dotted names that are known besides those of `kind`.
    """
    *tables, last = place
    siblings = [".".join([*tables, name]) for name in _fields(_at(kind, tables))]
    everywhere = [*dotted_names(kind), *elsewhere]
    same = [name for name in dict.fromkeys(everywhere) if name.rpartition(".")[2] == last]
    if len(place) > 1 and (sibling := _closest(last, siblings, 0.85)):
        return f" Did you mean '{sibling}'?"
    if same:
        return f" Did you mean {' or '.join(map(repr, same[:3]))}?"
    close = _closest(last, siblings, 0.7) or _closest(last, everywhere, 0.75) or _closest(last, siblings, 0.5)
    return f" Did you mean '{close}'?" if close else nearest(last, siblings)


def not_allowed(kind: Any, errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The setting that the first of pydantic's `errors` is about, dotted, and what is wrong with it, with its remedy.

    A setting of several types has an error for each: all are named.
    """
    name, fault = _fault(kind, errors[0])
    faults = dict.fromkeys(
        _fault(kind, other)[1] for other in errors if _place(kind, other["loc"])[0] == tuple(name.split("."))
    )
    return name, ", or ".join([fault, *(other.removeprefix("must be ") for other in faults if other != fault)])


def _fault(kind: Any, error: Mapping[str, Any]) -> tuple[str, str]:
    place, found = _place(kind, error["loc"])
    name, limits, what = ".".join(place) or "(top level)", error.get("ctx", {}), error["type"]
    table = None if found is None else _table(found.annotation)
    if what == "missing" and found is not None:
        return name, f"is missing: {_needed(place, table, found)}"
    if what.startswith(("model_", "dataclass_", "dict_")):
        return name, f"must be a table of settings{_example(name, table)}"
    if what == "literal_error":
        return name, f"must be {limits['expected']}"
    for key, words in _LIMITS.items():
        if key in limits and what in (words[0], f"{words[0]}_equal"):
            limit = limits[key]
            return name, f"{words[1]} {limit:g}" if isinstance(limit, float) else f"{words[1]} {limit}"
    for start, allowed in _KINDS.items():
        if what.startswith(start):
            return name, allowed
    message = str(error["msg"]).removeprefix("Value error, ")
    return name, message[:1].lower() + message[1:] if message.startswith("Input ") else message


_LIMITS = {
    "gt": ("greater_than", "must be above"),
    "ge": ("greater_than", "must be at least"),
    "lt": ("less_than", "must be below"),
    "le": ("less_than", "must be at most"),
}
_KINDS = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "finite_number": "must be a finite number",
    "bool_": "must be true or false",
    "string_type": "must be a text, in quotes",
    "path_type": "must be the name of a file, in quotes",
    "list_type": "must be a list, in square brackets",
    "tuple_type": "must be a list, in square brackets",
    "datetime_": "must be a date, e.g. 2024-05-31",
}
"""Beginnings of pydantic's names of errors, and what we say."""


def _needed(place: tuple[str, ...], table: Any, found: Any) -> str:
    about = (found.description or "").split("\n")[0].rstrip(".")
    if table is None and dict not in (found.annotation, getattr(found.annotation, "__origin__", None)):
        return f"give {'.'.join(place)}, {about[:1].lower()}{about[1:]}" if about else f"give {'.'.join(place)}"
    keys = list(_fields(table))
    shown = f" with {' or '.join(keys[:2])}" if keys else ""
    return f"add a table [{'.'.join(place)}]{shown}: {about[:1].lower()}{about[1:]}"


def _example(name: str, table: Any) -> str:
    first = next(dotted_names(table), None) if table is not None else None
    return f"; set one of them, e.g. {name}.{first}" if first else ""


def _place(kind: Any, location: Iterable[Any]) -> tuple[tuple[str, ...], Any]:
    """The keys of pydantic's location without the names of a union's members, and the field there."""
    keys: list[str] = []
    found = None
    for part in location:
        inner = _fields(kind).get(str(part)) if kind is not None else None
        if inner is None:
            if isinstance(part, int) or found is None:
                keys.append(str(part))
            continue
        keys.append(str(part))
        found, kind = inner, _table(inner.annotation)
    return tuple(keys), found


def _at(kind: Any, tables: Iterable[str]) -> Any:
    for name in tables:
        field = _fields(kind).get(name)
        kind = None if field is None else _table(field.annotation)
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _table(annotation: Any) -> Any:
    """The model that a field holds, also as one of several types; None for a value."""
    kinds = [annotation, *get_args(annotation)]
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _closest(last: str, names: Iterable[str], cutoff: float) -> str | None:
    by_last: dict[str, str] = {}
    for name in names:
        by_last.setdefault(name.rpartition(".")[2], name)
    found = difflib.get_close_matches(last, by_last, n=1, cutoff=cutoff)
    return by_last[found[0]] if found else None
