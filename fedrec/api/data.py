"""Data of the Python API: which log, how it is cleaned and split, and the users and items by their own ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from fedrec.api.frames import table_of
from fedrec.data import blocks, datasets, splits
from fedrec.data.catalogue import Catalogue
from fedrec.data.columns import CatalogueColumns
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.data.encoded import encoders_of
from fedrec.data.events import read_events
from fedrec.data.item_tables import typed_catalogue
from fedrec.data.log import Log
from fedrec.data.movielens import read_own_catalogue
from fedrec.data.people_tables import typed_people
from fedrec.data.positions import positions_of
from fedrec.data.readers import FRAME, GENERATED
from fedrec.errors import InputError, nearest
from fedrec.settings import parse

SUGGESTED = 100_000
"""Among at most this many items the nearest id is looked for; in a longer list that takes seconds."""


@dataclass(frozen=True)
class Data:
    """A log of events that is ready to train on: what a scenario's `[data]` table says, and the events themselves.

    Args:
        config: the `[data]` table.
        data_dir: the folder that holds a folder for each dataset.
        seed: draws generated data, and the order of events that have no time. A run draws both from its own seed.
        log: the events of a table in memory; None where files hold them.
    """

    config: DataConfig
    data_dir: Path | None = None
    seed: int = 0
    log: Log | None = field(default=None, repr=False)

    @cached_property
    def dataset(self) -> Dataset:
        """The events as positions of users and items."""
        return datasets.load(self.config, self.data_dir, self.seed, self.read)

    @cached_property
    def read(self) -> Log:
        """The events as they were read."""
        return datasets.read(self.config, self.data_dir, self.seed) if self.log is None else self.log

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self.dataset.name

    @property
    def users(self) -> list[str]:
        """The users' own ids. They are private: no file of a run holds them."""
        return [str(user) for user in self.dataset.user_ids.to_list()]

    @property
    def items(self) -> pl.DataFrame:
        """The catalogue: `item`, and `title` where titles are known."""
        catalogue = self.dataset.catalogue
        titles = {} if catalogue.titles is None else {"title": list(catalogue.titles)}
        return pl.DataFrame({"item": list(catalogue.ids), **titles})

    @property
    def counts(self) -> dict[str, int]:
        """Users, items and interactions. True counts, which no guarantee covers."""
        report: Mapping[str, Any] = self.dataset.report
        return {name: int(report[name]) for name in ("users", "items", "interactions")}

    def history(self, user: str | int) -> pl.DataFrame:
        """One user's events, oldest first: `item`, and `title` where titles are known.

        Raises:
            InputError: when the log has no such user.
        """
        catalogue = self.dataset.catalogue
        items = self.dataset.histories.row(self.position(user)).tolist()
        titles = {} if catalogue.titles is None else {"title": [catalogue.titles[item] for item in items]}
        return pl.DataFrame({"item": [catalogue.ids[item] for item in items], **titles})

    def attributes(self, user: str | int) -> dict[str, str]:
        """One user's known private attributes, by name.

        Raises:
            InputError: when the log has no such user.
        """
        place, people = self.position(user), self.dataset.histories.people
        return {} if people is None else people.person(place)

    def position(self, user: str | int) -> int:
        """Return the position of a user among the histories.

        Raises:
            InputError: when the log has no such user.
        """
        ids, wanted = self.dataset.user_ids, str(user).strip()
        try:
            known = pl.Series("user", [int(wanted) if ids.dtype.is_integer() else wanted], ids.dtype)
            found = positions_of(known, ids)[0] if len(ids) else None
        except (ValueError, OverflowError, TypeError):
            found = None
        if found is None:
            kind = "whole numbers" if ids.dtype.is_integer() else "text"
            raise InputError(
                f"user '{wanted}': {self.name} has no such user ({len(ids):,} users, their ids are {kind}); give an id "
                "of the log, or a history"
            )
        return int(found)

    def with_seed(self, seed: int) -> "Data":
        """The same data as a run with the public seed `seed` draws them."""
        return self if seed == self.seed else replace(self, seed=seed, log=None if generated(self) else self.read)

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{count:,}</td></tr>" for name, count in self.counts.items())
        split = f"<tr><th>split</th><td>{escape(self.config.split)}</td></tr>"
        return f"<table><caption>{escape(self.name)}</caption>{cells}{split}</table>"


def load_dataset(name: str, data_dir: str | Path | None = None, *, seed: int = 0, **options: Any) -> Data:
    """Load a built-in dataset (`fedrec data list`).

    Args:
        name: of the dataset, e.g. "ml-100k"; "quickstart" is generated and needs no files.
        data_dir: the folder that holds a folder for each dataset; left out, the environment's FEDREC_DATA.
        seed: draws generated data; a run draws them from its own seed.
        options: further settings of a scenario's `[data]` table, e.g. `min_rating=4.0`.

    Raises:
        InputError: one line, when there is no such dataset or its files cannot be used.

    >>> import fedrec
    >>> data = fedrec.load_dataset("quickstart", users=200, items=60)
    >>> data.counts["users"], len(data.items)
    (200, 60)
    """
    folder = None if data_dir is None else Path(data_dir)
    data = Data(parse(DataConfig, {"name": name, **options}, "load_dataset"), folder, seed)
    _ = data.dataset
    return data


def read_log(log: Any, catalogue: Any = None, people: Any = None, **options: Any) -> Data:
    """Read a log of your own: user_id, item_id, and perhaps rating and timestamp.

    Args:
        log: a file in any format that `fedrec simulate` reads, or a table of polars, pandas or pyarrow, or columns by
            name. A table stays in memory, and no file of a run holds it.
        catalogue: the public items, item_id and perhaps title and features; left out, the items of the log.
        people: private attributes of users, user_id and any columns, a file or a table; they stay where events are.
        options: further settings of a scenario's `[data]` table, e.g. `columns={"user": "uid"}`, `k_core=5`.

    Raises:
        InputError: one line with row and remedy, when the log or the catalogue cannot be used.

    >>> import fedrec
    >>> data = fedrec.read_log({"user_id": ["ann", "ann", "bob"], "item_id": [7, 8, 7]})
    >>> data.history("ann")["item"].to_list()
    ['7', '8']
    """
    if isinstance(log, str | Path):
        if catalogue is not None and not isinstance(catalogue, str | Path):
            raise InputError("read_log: a log in a file needs its catalogue in a file; give both as files or as tables")
        paths = {"path": Path(log)} | ({} if catalogue is None else {"catalogue": Path(catalogue)})
        if people is not None and not isinstance(people, str | Path):
            raise InputError("read_log: a log in a file needs its people in a file; give both as files or as tables")
        paths |= {} if people is None else {"people": Path(people)}
        data = Data(parse(DataConfig, paths | options, "read_log"))
    else:
        data = _of_table(table_of(log, "the log"), catalogue, people, options)
    _ = data.dataset
    return data


def _of_table(events: pl.DataFrame, catalogue: Any, people: Any, options: Mapping[str, Any]) -> Data:
    on_file = isinstance(catalogue, str | Path)
    given = {"name": FRAME, **options} | ({"catalogue": Path(catalogue)} if on_file else {})
    given |= {"people": Path(people)} if isinstance(people, str | Path) else {}
    config = parse(DataConfig, given, "read_log")
    found, reading = read_events(events, Path("the log"), config.columns)
    log = Log("the log", found, reading=reading)
    if catalogue is not None and not on_file:
        items = typed_catalogue(table_of(catalogue, "the catalogue"), Path("the catalogue"), config.catalogue_columns)
        log = replace(log, items=items, whole_catalogue=True)
    if people is not None and not isinstance(people, str | Path):
        table = table_of(people, "the people")
        log = replace(log, people=typed_people(table, Path("the people"), config.columns))
    return Data(config, log=log)


def catalogue_of(items: Any) -> Catalogue:
    """Return the catalogue of items in a file or a table, in the order of a run's catalogue."""
    encoders: dict[str, str] = {}
    if isinstance(items, str | Path):
        table, encoders = read_own_catalogue(Path(items), CatalogueColumns()), encoders_of(Path(items))
    else:
        table = typed_catalogue(table_of(items, "the catalogue"), Path("the catalogue"), CatalogueColumns())
    return blocks.catalogue(table["item"].unique().sort(), table, "the catalogue", encoders)


def split(data: Data, kind: str, **hold_out: Any) -> Data:
    """Choose how test items are held out of each user.

    Args:
        data: what `load_dataset` or `read_log` returned.
        kind: "leave-one-out", "leave-two-out", "ncf", "given", "given-all", "temporal", "user-holdout", "ratio",
            "k-fold", "cold-items", "cold-users" or "cross-domain".
        hold_out: settings of `[data.hold_out]`, e.g. `share=0.2`; for the last six.

    Returns: the data with that split, which a run makes from its own seed.

    Raises:
        InputError: when the kind is unknown or the data do not have what it needs.

    >>> import fedrec
    >>> data = fedrec.split(fedrec.load_dataset("quickstart", users=200, items=60), "leave-two-out")
    >>> data.config.split
    'leave-two-out'
    """
    settings = data.config.model_dump(exclude_unset=True) | {"split": kind}
    if hold_out:
        settings["hold_out"] = settings.get("hold_out", {}) | hold_out
    known = DataConfig.model_fields["split"].annotation.__args__  # type: ignore[union-attr]
    if kind not in known:
        raise InputError(f"split: unknown split '{kind}'.{nearest(kind, known)}")
    made = replace(data, config=parse(DataConfig, settings, "split"))
    splits.split(replace(data.dataset, hold_out=made.config.hold_out), kind, "test", data.seed)
    return made


def generated(data: Data) -> bool:
    """Return whether a run draws the events from its own seed."""
    return data.log is None and data.config.path is None and data.config.name in GENERATED


def item_positions(data_ids: tuple[str, ...], wanted: list[str], what: str) -> list[int]:
    """The positions of the items `wanted` in a catalogue.

    Raises:
        InputError: with the first item that is not in the catalogue.
    """
    places = {item: place for place, item in enumerate(data_ids)}
    for item in wanted:
        if item not in places:
            hint = nearest(item, data_ids) if len(data_ids) <= SUGGESTED else ""
            hint = hint if hint.startswith(" Did") else ""
            raise InputError(f"{what}: the catalogue has no item '{item}' ({len(data_ids):,} items).{hint}")
    return [places[item] for item in wanted]
