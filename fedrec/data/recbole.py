"""Reader of RecBole atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html).

They are tab-separated, and each column of the header carries its type (`token`, `token_seq`, `float`, `float_seq`).
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from fedrec.data.columns import OPTIONS, Column, LogColumns
from fedrec.data.events import read_events
from fedrec.data.features import numbers
from fedrec.data.item_tables import item_ids
from fedrec.data.log import Log
from fedrec.data.tables import need_columns, read_delimited
from fedrec.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")
_USERS = ("user_id", "session_id", "visitor_id")
_EVENTS = ("review_id", "order_id")


def read_inter(file: Path, columns: LogColumns | None = None) -> Log:
    """Read a `.inter` file, with the features of the `.item` file of the same name, if there is one.

    Without `user_id`, sessions or visitors are the users. Without `item_id`, the only other id is the item.

    Args:
        file: the `.inter` file.
        columns: configured names of columns, without their types.
    """
    columns = columns or LogColumns()
    table, types = _read(file)
    items = file.with_suffix(".item")
    own = columns.named
    item = str(own["item_id"]) if "item_id" in own else _item_column(table, types, file)
    features = read_items(items, item) if items.is_file() else None
    named = own if {"user_id", "item_id"} <= own.keys() else _names(table, types, file) | own
    events, reading = read_events(table, file, columns.model_copy(update=_roles(named)))
    return Log(str(file), events, items=features, reading=reading)


def read_atomic(file: Path) -> pl.DataFrame:
    """Read the events of a `.inter` file: user, item, and where present rating and timestamp."""
    table, types = _read(file)
    return read_events(table, file, LogColumns().model_copy(update=_roles(_names(table, types, file))))[0]


def _names(table: pl.DataFrame, types: dict[str, str], file: Path) -> dict[str, Column]:
    names: dict[str, Column] = {"user_id": _user_column(types), "item_id": _item_column(table, types, file)}
    for usual, other in (("rating", "stars"), ("timestamp", "date")):
        if usual not in types and types.get(other) == "float":
            names[usual] = other
    if "timestamp" not in {*types, *names}:
        names["timestamp"] = "none"
    return names


def _roles(names: Mapping[str, Column]) -> dict[str, Column]:
    return {OPTIONS[name]: column for name, column in names.items()}


def read_items(file: Path, item: str = "item_id") -> pl.DataFrame:
    """Read the items of a `.item` file with the ids of its column `item`.

    A float becomes a number; token and token_seq become text (the words of a token_seq may be a title or labels, which
    the file does not show). float_seq columns are left out. A `title` is always text.
    """
    table, types = _read(file)
    item = "item_id" if "item_id" in types else item
    need_columns(table, file, item)
    columns = [item_ids(table, item, file)]
    for name, kind in types.items():
        if name != item and kind != "float_seq":
            number = kind == "float" and name != "title"
            columns.append(numbers(table[name], file) if number else table[name])
    return pl.DataFrame(columns)


def _user_column(types: dict[str, str]) -> str:
    return next((name for name in _USERS if name in types), _USERS[0])


def _item_column(table: pl.DataFrame, types: dict[str, str], file: Path) -> str:
    if "item_id" in types:
        return "item_id"
    others = [name for name, kind in types.items() if kind == "token" and name.endswith("_id")]
    others = [name for name in others if name not in (*_USERS, *_EVENTS)]
    if len(others) != 1:
        need_columns(table, file, "item_id")
    return others[0]


def _read(file: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    table = read_delimited(file, "\t")
    types = {}
    for column in table.columns:
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise InputError(
                f"{file}, line 1: column '{column}' needs its type, like '{name}:token' ({', '.join(_TYPES)})"
            )
        if name in types:
            raise InputError(f"{file}, line 1: two columns are called '{name}'; rename or drop one")
        types[name] = kind
    table.columns = list(types)
    return table, types
