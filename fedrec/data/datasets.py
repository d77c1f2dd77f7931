"""Loading: the `[data]` table of a scenario becomes a dataset that is read, cleaned, counted and indexed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from fedrec.data import amazon, blocks, events, movielens, recbole
from fedrec.data.balance import Balance, BalanceConfig, balance
from fedrec.data.catalogue import Catalogue
from fedrec.data.cleaning import Counts, canonical, clean
from fedrec.data.columns import CatalogueColumns, LogColumns
from fedrec.data.dislikes import disliked_rows, dislikes, said_of_ratings
from fedrec.data.encoded import encoders_of, with_vectors
from fedrec.data.folder import data_folder
from fedrec.data.histories import Histories
from fedrec.data.holdouts import HoldOutConfig
from fedrec.data.ids import identities
from fedrec.data.local_rules import CleaningConfig, LocalRules, local_rules
from fedrec.data.log import Log
from fedrec.data.order import known_order, order_counts, places
from fedrec.data.people import aligned
from fedrec.data.people_tables import with_people
from fedrec.data.positions import other_spelling, positions_of, published_test
from fedrec.data.readers import AMAZON, FOLDERS, FRAME, GENERATED, NODES, others, read_by, reader_of
from fedrec.errors import InputError, nearest
from fedrec.settings import Settings

DATA_PATHS = tuple(
    f"data.{name}" for name in ("path", "catalogue", "people", "vectors", "balance.popularity", "cleaning.item_means")
)
"""Settings of `DataConfig` that are paths."""


class DataConfig(Settings):
    """The `[data]` table of a scenario."""

    name: str = "quickstart"
    """A built-in dataset (`fedrec data list`), one that an installed package reads, or "file" when `path` is given."""
    path: Path | None = None
    """Your own log with user_id,item_id[,rating][,timestamp]: parquet, CSV, TSV, text, JSON lines, also .gz or .zip, a
    folder of parts, or a RecBole .inter file."""
    columns: LogColumns = LogColumns()
    """The columns of `path`, and the format of a text file."""
    catalogue: Path | None = None
    """The items of your log: a file of the same formats with item_id[,title] and any further features."""
    catalogue_columns: CatalogueColumns = CatalogueColumns()
    """The columns of `catalogue`, and the format of a text file."""
    people: Path | None = None
    """Private attributes of the users of your log: a file of the same formats with user_id and any further columns, or
    a RecBole .user file. They stay where the events are; `algorithm.people` names what a model uses."""
    vectors: Path | None = None
    """A file of `fedrec data encode`: its vector columns join the items' features, by item id."""
    split: Literal[
        "leave-one-out",
        "leave-two-out",
        "ncf",
        "given",
        "given-all",
        "temporal",
        "user-holdout",
        "ratio",
        "k-fold",
        "cold-items",
        "cold-users",
        "cross-domain",
    ] = "leave-one-out"
    """How test items are chosen (`fedrec data describe` lists the splits of a dataset)."""
    hold_out: HoldOutConfig = HoldOutConfig()
    """The held-out part of the splits `temporal`, `user-holdout`, `ratio`, `k-fold`, `cold-items`, `cold-users` and
    `cross-domain`."""
    balance: BalanceConfig = BalanceConfig()
    """Balanced training data, where few users or few items have most of the events."""
    cleaning: CleaningConfig | None = None
    """What a device does to the events that it trains on: outliers, imputation, normalisation, augmentation."""
    min_rating: float | None = None
    """Drop events rated below this; needs ratings."""
    mask_dropped: bool = False
    """Also mask items that a user rated below `min_rating` in this user's ranking; no device trains on them."""
    dropped_as_negatives: bool = False
    """Draw every other training negative of a user from items that the user rated below `min_rating`; needs
    `mask_dropped`, and an algorithm that draws negatives."""
    repeats: Literal["first", "keep"] = "first"
    """Several events of a user with one item: "first" counts the first; "keep" counts all, may recommend an item again
    and masks nothing. "keep" is for the splits `leave-one-out` and `leave-two-out`."""
    k_core: int = Field(default=0, ge=0)
    """Drop users and items with fewer events, repeatedly until none is left; 0 or 1 drops none."""
    ordered: bool | Literal["lines"] = True
    """False: devices forget the order of events (held-out items are still the newest ones). "lines": where no time
    decides, the order of lines is the order of events; otherwise it carries no meaning."""
    users: int | None = Field(default=None, ge=1)
    """Generated data only: number of users."""
    items: int | None = Field(default=None, ge=20)
    """Generated data only: number of items."""
    interactions_per_user: int | None = Field(default=None, ge=3)
    """Generated data only: events a user, on average."""

    @field_validator("name")
    @classmethod
    def _names_one_folder(cls, name: str) -> str:
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError("must be the name of a dataset, which is a folder's name without the way to it")
        return name

    @property
    def files(self) -> list[Path]:
        """Every file that the table names. A node reads none of them: a server must not choose files of a node."""
        means = None if self.cleaning is None else self.cleaning.item_means
        public = (self.vectors, self.balance.popularity, means)
        return [path for path in (self.path, self.catalogue, self.people, *public) if path is not None]


@dataclass(frozen=True)
class Dataset:
    """A dataset that is ready to split.

    Attributes:
        histories: every event that was kept, oldest first; in a seeded random order where the log has none.
        fixed_test: a published test split as catalogue positions: targets (users,) and negatives (users, 99), int64.
        parts: (events,) uint8 in the order of `histories`, 0 train, 1 valid, 2 test; None unless the source is split.
        dropped: items that the same users rated too low, masked in their rankings; None unless `mask_dropped`.
        keep_order: False if devices must not use the order (`fedrec.data.splits.split` enforces it).
        hold_out: settings of the splits that hold out several items a user.
        balance: rules for the training events (`fedrec.data.splits.split` applies them).
        cleaning: rules of a device for its own training events; `split` applies them before `balance`.
        report: counts for readers and for `summary.json`.
        reading: how ids and times of the user's own log were read, for readers.
        repeats: True if users may consume an item again; then nothing that they consumed is masked.
        train_dropped: True if training draws negatives from `dropped`.
        user_ids: (users,) the log's own ids, Int64 or text, as in `histories`. Private: no file of a run holds them.
    """

    name: str
    catalogue: Catalogue
    histories: Histories
    fixed_test: tuple[np.ndarray, np.ndarray] | None
    report: Counts
    parts: np.ndarray | None = None
    dropped: Histories | None = None
    keep_order: bool = True
    hold_out: HoldOutConfig = HoldOutConfig()
    balance: Balance = Balance()
    cleaning: LocalRules = LocalRules()
    reading: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = False
    train_dropped: bool = False
    user_ids: pl.Series = field(default_factory=lambda: pl.Series("user", [], pl.Int64), repr=False)


def load(config: DataConfig, data_dir: Path | None, seed: int, log: Log | None = None) -> Dataset:
    """Load the dataset that `config` names. The order of lines makes no difference.

    Args:
        config: the `[data]` table.
        data_dir: folder of datasets, one folder each; None takes the environment's FEDREC_DATA.
        seed: seeds generated data, and the order of events where the log has none.
        log: a log that `read` returned, or a table in memory; None reads it.

    Raises:
        InputError: for anything that is not a usable dataset.
    """
    log = read(config, data_dir, seed) if log is None else log
    if config.ordered == "lines":
        log = log.in_order_of_lines()
    keep = config.repeats == "keep"
    events, counts = clean(log, config.min_rating, config.k_core, keep_repeats=keep)
    dropped = dislikes(log, config.min_rating, keep_repeats=keep) if config.mask_dropped else None
    if config.dropped_as_negatives and dropped is None:
        raise InputError("data.dropped_as_negatives is for dislikes that are kept; set data.mask_dropped=true too")
    counts |= said_of_ratings(log, config.min_rating, config.mask_dropped, config.dropped_as_negatives)
    if config.catalogue is not None:
        items = movielens.read_own_catalogue(config.catalogue, config.catalogue_columns)
        log = replace(log, items=items, whole_catalogue=True, encoders=encoders_of(config.catalogue))
    if config.vectors is not None:
        log = with_vectors(log, config.vectors)
    log = with_people(log, config.people, config.columns)
    return _dataset(config, log, events, dropped, counts, seed)


def public_catalogue(config: DataConfig, data_dir: Path | None, seed: int) -> tuple[Catalogue, str]:
    """Return the catalogue for a server that sees no events, and its source as in a dataset's report.

    The catalogue is that of a public dataset, or of data that the nodes hold (`NODES`).

    Raises:
        InputError: when the settings name no catalogue, or it cannot be read.
    """
    if config.name != NODES:
        dataset = load(config, data_dir, seed)
        return dataset.catalogue, str(dataset.report["catalogue"])
    if config.catalogue is None or config.files != [config.catalogue] or config.k_core > 1:
        raise InputError(
            f"data.name = '{NODES}' needs data.catalogue, the public file of items, and no data.path, data.vectors, "
            "data.k_core, data.balance.popularity or data.cleaning.item_means: a node with data of its own cannot "
            "follow them"
        )
    items = movielens.read_own_catalogue(config.catalogue, config.catalogue_columns)
    ids, encoders = items["item"].unique().sort(), encoders_of(config.catalogue)
    return blocks.catalogue(ids, items, str(config.catalogue), encoders), "given"


def read(config: DataConfig, data_dir: Path | None, seed: int) -> Log:
    """Read the log that `config` names, without cleaning it.

    Raises:
        InputError: for settings that contradict each other, or a log that cannot be read.
    """
    name = config.name if config.path is None else "file"
    if config.path is not None and config.name not in ("file", DataConfig.model_fields["name"].default):
        raise InputError(f"data.path and data.name = '{config.name}' name two datasets; give one of them")
    sizes = (config.users, config.items, config.interactions_per_user)
    if name not in GENERATED and any(size is not None for size in sizes):
        raise InputError(
            "data.users, data.items and data.interactions_per_user are for generated data only; leave them out"
        )
    if name == "file":
        if config.path is None:
            raise InputError("data.name = 'file' needs data.path, the file to read")
        return read_file(config.path, config.columns)
    if config.columns != LogColumns():
        raise InputError(f"data.columns is for a log of your own, data.path; leave it out for '{name}'")
    if name == FRAME:
        raise InputError(
            "data.name = 'frame': the log was a table in memory, which no file holds; write it to a file and give "
            "data.path, or pass the table to fedrec.read_log again"
        )
    if name in GENERATED:
        generate, standard = GENERATED[name]
        return generate(seed, *(size or usual for size, usual in zip(sizes, standard, strict=True)))
    if (reader := reader_of(name)) is not None:
        return read_by(reader, name, _folder(name, data_dir))
    if name in FOLDERS or name.startswith(AMAZON) or has_folder(name, data_dir):
        return _read_folder(name, _folder(name, data_dir))
    raise InputError(f"unknown dataset '{name}'.{nearest(name, [*FOLDERS, *GENERATED, *others()])}")


def read_file(path: Path, columns: LogColumns) -> Log:
    """Read a log by the ending of its name; MovieLens' `ratings.csv` with the `movies.csv` of the same folder.

    Raises:
        InputError: for a file that cannot be read.
    """
    if path.suffix.lower() == ".inter":
        return recbole.read_inter(path, columns)
    log = events.read_log(path, columns)
    return replace(log, items=movielens.movies_beside(path))


def has_folder(name: str, data_dir: Path | None) -> bool:
    """Return whether the folder of datasets has one of this name."""
    given = data_folder(data_dir)
    return given is not None and (given / name).is_dir()


def _read_folder(name: str, folder: Path) -> Log:
    atomic = folder / f"{name}.inter"
    if atomic.is_file() and name != "ml-100k":  # its own reader accepts RecBole's files too
        return recbole.read_inter(atomic)
    if name in FOLDERS:
        return FOLDERS[name](folder)
    if name.startswith(AMAZON):
        return amazon.read_amazon(folder)
    raise InputError(
        f"{folder}: format not recognised; put RecBole's {name}.inter there, or give data.path, the file to read"
    )


def _folder(name: str, data_dir: Path | None) -> Path:
    given = data_folder(data_dir)
    if given is None:
        raise InputError(f"dataset '{name}' needs a folder of datasets; say where with --data-dir or FEDREC_DATA")
    folder = given / name
    if not folder.is_dir():
        raise InputError(
            f"no dataset '{name}' in {given}; `fedrec data get {name}` downloads it where a publisher is known, or put "
            f"its files into {folder}, or mend --data-dir or FEDREC_DATA"
        )
    return folder


def _dataset(
    config: DataConfig, log: Log, events: pl.DataFrame, dropped: pl.DataFrame | None, counts: Counts, seed: int
) -> Dataset:
    items = log.items
    if items is not None and items["item"].dtype != events["item"].dtype:
        events, items = (table.with_columns(pl.col("item").cast(pl.String)) for table in (events, items))
    given = items is not None and log.whole_catalogue
    item_ids = (items if given and items is not None else events)["item"].unique().sort()
    user_ids = events["user"].unique().sort()
    positions = positions_of(events["item"], item_ids)
    if positions.null_count():
        lost = events["item"].filter(positions.is_null())
        raise InputError(
            f"{config.catalogue or log.source}: lacks item {lost[0]} of the log ({lost.n_unique()} items in all"
            f"{other_spelling(lost[0], item_ids)}); add a row for each or drop their events"
        )
    events = events.with_columns(positions_of(events["user"], user_ids).alias("user"), positions.alias("item"))
    catalogue = blocks.catalogue(item_ids, items, str(config.catalogue or log.source), log.encoders)

    events = canonical(events, log.order)
    lengths = np.bincount(events["user"].to_numpy(), minlength=len(user_ids))
    rated = "rating" in events.columns and events["rating"].null_count() < len(events)
    histories = Histories(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=events["item"].to_numpy().astype(np.int32),
        n_items=len(catalogue),
        ratings=events["rating"].to_numpy().astype(np.float32) if rated else None,
        times=events["timestamp"].to_numpy().astype(np.float64) if "timestamp" in events.columns else None,
        ordered=bool(log.order),
        identities=identities(user_ids),
        places=places(events, log.order),
        item_identities=identities(item_ids),
        people=aligned(log.people, user_ids),
    )
    order = histories.oldest_first(seed)
    histories = known_order(histories.permuted(order))
    parts = events["part"].to_numpy() if "part" in events.columns else None
    fixed = None if log.fixed_test is None else published_test(log.fixed_test, user_ids, item_ids)
    cleaning = local_rules(config.cleaning, catalogue.ids)
    cleaning.check(histories, log.source)
    report: Counts = {
        **counts,
        "users": len(histories),
        "items": len(catalogue),
        "interactions": len(histories.items),
        **order_counts(histories, log.order),
        **cleaning.counts(histories),
        "catalogue": "given" if given else "the items of the log",
    }
    return Dataset(
        dropped=None if dropped is None else disliked_rows(dropped, user_ids, item_ids),
        name=config.path.stem if config.path else config.name,
        catalogue=catalogue,
        histories=histories,
        fixed_test=fixed,
        report=report,
        parts=None if parts is None else parts[order],
        keep_order=bool(config.ordered),
        hold_out=config.hold_out,
        balance=balance(config.balance, catalogue.ids),
        cleaning=cleaning,
        reading=log.reading,
        repeats=config.repeats == "keep",
        train_dropped=config.dropped_as_negatives,
        user_ids=user_ids,
    )
