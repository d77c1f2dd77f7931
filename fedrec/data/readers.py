"""Readers by the name of their dataset: fedrec's own, and those of installed packages.

A reader is a function from the dataset's folder to a `Log`. Readers of other packages are entry points of the group
`fedrec.readers`, and their logs are checked before use.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import polars as pl

from fedrec import plugins
from fedrec.data import entities, gowalla, lastfm, long_texts, movielens, planted, quickstart, shapes
from fedrec.data.log import Log
from fedrec.data.sources import SOURCES
from fedrec.errors import FedrecError, InputError, first_line

Reader = Callable[[Path], Log]


def _synthetic(seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    from fedrec.data.synthetic import generate  # it needs PyTorch, which names of datasets do without

    return generate(seed, users, items, interactions_per_user)


FOLDERS: dict[str, Reader] = {
    "ml-1m": movielens.read_ml_1m,
    "ml-100k": movielens.read_ml_100k,
    "ml-latest-small": movielens.read_ml_csv,
    "gowalla": gowalla.read_gowalla,
    "ml-10m": movielens.read_ml_10m,
    "ml-20m": movielens.read_ml_csv,
    "ml-25m": movielens.read_ml_csv,
    "ml-32m": movielens.read_ml_csv,
    "ml-latest": movielens.read_ml_csv,
    "lastfm": lastfm.read_lastfm,
}
"""Datasets in a folder of their name below the data folder. Further folders are recognised by their content:
`NAME/NAME.inter` (RecBole), and Amazon reviews where the name begins with `amazon`."""

GENERATED: dict[str, tuple[Callable[[int, int, int, int], Log], tuple[int, int, int]]] = {
    "quickstart": (quickstart.generate, quickstart.SIZES),
    "synthetic": (_synthetic, (10_000, 5_000, 50)),
    **{name: shapes.generator(name) for name in shapes.SHAPES},
    entities.NAME: (entities.generate, entities.SIZES),
    "planted-order": (planted.generate, planted.SIZES),
    **{name: long_texts.generator(name) for name in long_texts.SIZES},
}
"""Datasets that need no files: the function of (seed, users, items, events a user) and its usual sizes."""

AMAZON: Final = "amazon"
NODES: Final = "nodes"
"""`data.name` of a deployment whose nodes each hold their own events; no simulation uses it."""
FRAME: Final = "frame"
"""`data.name` of a log that was a table in memory: the Python API passes it, and no file holds it."""

GROUP: Final = "fedrec.readers"
BUILT_IN: Final = frozenset({*FOLDERS, *GENERATED, *SOURCES, AMAZON, NODES, FRAME, "file"})
"""Names that no other package can take. Names that begin with `amazon` are reserved too."""

_IDS, _NUMBER = (pl.Int64, pl.String), (pl.Float64,)
_TYPES: dict[str, tuple[Any, ...]] = {"user": _IDS, "item": _IDS, "rating": _NUMBER, "timestamp": _NUMBER}


def others() -> dict[str, plugins.Plugin]:
    """Return the readers of other packages by the name of their dataset, not imported."""
    return {name: each for name, each in plugins.plugins(GROUP, BUILT_IN).items() if not name.startswith(AMAZON)}


def reader_of(name: str) -> Reader | None:
    """Return the reader of an installed package for datasets of this name; None where no package has one.

    Raises:
        PluginRefused: when this process does not allow it.
        InputError: when it is not a reader.
    """
    if name not in others():
        return None
    found: Reader = plugins.discover(GROUP, name, {}, _unusable)
    return found


def read_by(reader: Reader, name: str, folder: Path) -> Log:
    """Read `folder` with the `reader` of another package, and check the log.

    Raises:
        InputError: when the reader fails, or returns something that is not a usable log.
    """
    where = plugins.origin(reader)
    what = f"{folder}: the reader '{name}' of {where.package if where else 'fedrec'}"
    try:
        log = reader(folder)
    except FedrecError:
        raise
    except Exception as error:  # the code of another package may raise anything
        raise InputError(f"{what} failed ({type(error).__name__}: {first_line(error)}); mend the files") from error
    fault = _fault(log)
    if fault:
        raise InputError(f"{what} {fault}; `fedrec.data.events.typed_events` makes events as they must be")
    return log


def _unusable(found: Any, _name: str) -> str | None:
    return None if inspect.isfunction(found) else "is no function from a folder to a Log"


def _fault(log: Any) -> str | None:
    """Return the fault of a log that cleaning would misread; None for a usable log."""
    if not isinstance(log, Log) or not isinstance(log.events, pl.DataFrame):
        return f"returned no Log, but {type(log).__name__}"
    tables = {"events": (log.events, ("user", "item")), "items": (log.items, ("item",))}
    for called, (table, needed) in tables.items():
        if table is None:
            continue
        for column in needed:
            if column not in table.columns:
                return f"returned {called} without the column '{column}'"
            if table[column].null_count():
                return f"returned {called} with an empty '{column}'"
        for column, types in _TYPES.items():
            if column in table.columns and (called == "events" or column in needed):
                if table[column].dtype not in types:
                    return f"returned {called} whose '{column}' is {table[column].dtype}"
                if types is _NUMBER and table[column].is_infinite().any():
                    return f"returned {called} whose '{column}' is not finite"
    return None
