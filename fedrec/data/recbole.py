"""RecBole atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html): tab-separated, and each column of
the header carries its type (`token`, `token_seq`, `float`, `float_seq`)."""

from pathlib import Path

import polars as pl

from fedrec.data.log import Log
from fedrec.data.tables import ids, need_columns, read_delimited, typed_events
from fedrec.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_inter(file: Path) -> Log:
    """A `.inter` file, with the features of the `.item` file of the same name beside it, if there is one."""
    items = file.with_suffix(".item")
    return Log(str(file), read_atomic(file), items=read_items(items) if items.is_file() else None)


def read_atomic(file: Path) -> pl.DataFrame:
    """The events of a `.inter` file: user, item, and where there are any rating and timestamp."""
    return typed_events(_read(file)[0], file)


def read_items(file: Path) -> pl.DataFrame:
    """The items of a `.item` file: float -> number, token -> text, token_seq -> text (its words may be a title's or
    labels: the file does not tell), float_seq columns are left out."""
    table, types = _read(file)
    need_columns(table, file, "item_id")
    columns = [ids(table["item_id"], file).alias("item")]
    for name, kind in types.items():
        if name != "item_id" and kind != "float_seq":
            columns.append(table[name].cast(pl.Float64, strict=False) if kind == "float" else table[name])
    return pl.DataFrame(columns)


def _read(file: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    table = read_delimited(file, "\t")
    types = {}
    for column in table.columns:
        name, _, kind = column.partition(":")
        if kind not in _TYPES:
            raise InputError(
                f"{file}, line 1: column '{column}' needs its type, like '{name}:token' ({', '.join(_TYPES)})"
            )
        types[name] = kind
    table.columns = list(types)
    return table, types
