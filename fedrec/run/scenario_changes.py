"""Changes to the values of a scenario: dotted keys, with settings of algorithms also under their older names."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedrec.algorithms.base import Algorithm
from fedrec.algorithms.discover import algorithm
from fedrec.errors import InputError
from fedrec.settings import put

NAME = "algorithm.name"


def installed_algorithm(values: Mapping[str, Any]) -> type[Algorithm] | None:
    """Return the built-in or installed algorithm in a scenario's values; None for any other name, or none."""
    table = values.get("algorithm")
    try:
        return algorithm(str(table.get("name"))) if isinstance(table, Mapping) else None
    except InputError:
        return None


def change_values(values: dict[str, Any], changes: Iterable[tuple[str, Any, str]], name: str) -> None:
    """Set dotted keys in the values of a scenario, in place. A change replaces the setting under either of its names.

    Args:
        values: the tables of the scenario.
        changes: (dotted key, value, source for errors) of each.
        name: the scenario's name, for errors.
    Raises: InputError for a section that is a value, and where one setting is given under both of its names.
    """
    changes = list(changes)
    for key, value, where in changes:
        if key == NAME:  # it decides what the other names mean
            put(values, key, value, where)
    kind, table = installed_algorithm(values), values.get("algorithm")
    older: dict[str, str] = {}
    if kind is not None:
        older = {f"algorithm.{old}": f"algorithm.{new}" for old, new in kind.Config.older_names.items()}
        if isinstance(table, dict):
            values["algorithm"] = kind.Config.renamed(table, f"scenario '{name}', [algorithm]")
    given = {key for key, _, _ in changes}
    for key, value, where in changes:
        if key in older and older[key] in given:
            raise InputError(f"{where}: '{key}' is the older name of '{older[key]}'; leave one of them out")
        put(values, older.get(key, key), value, where)
