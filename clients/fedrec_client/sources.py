"""Where a node's users are, by its `--node-config`: a shard of a dataset that the node names, or data of its own.

| key | meaning |
|---|---|
| `data` | a log of its own (any file that `data.path` may be), or a folder with `events.*` and `catalogue.*` |
| `catalogue` | the public items of the run, with `data`: the same file that the server has |
| `people` | with `data`: a file of private attributes of its users, for a policy whose `data.attributes` is true |
| `columns` | with `data`: a TOML file with the tables `columns` and `catalogue_columns` of a scenario's `[data]` |
| `users` | with `data`: how many users the node hosts; the number in its own log if left out |
| `partition-id`, `num-partitions` | instead: users i of n nodes, in order, of the dataset that the run names |
| `datasets` | with a shard: the built-in datasets that the node serves, commas between; generated ones if left out |
| `plugins` | names of installed plug-ins (algorithms, towers) that runs may name, commas between; none if left out |
| `state` | the node's own folder, in which it remembers runs; `~/.fedrec/client` if left out |
| `key` | the node's private key, which signs receipts; none are signed if left out |
| `data-dir` | the folder of those datasets; the environment's FEDREC_DATA if left out |

A run says which dataset a shard is of, among those that the node serves, and how events are filtered and held out. It
never chooses a file or a folder. With data of its own, the number of users follows from the node's configuration and
log before any filter: a user whose events are all filtered out stays, with an empty history, and no filter ends in an
error of its own. So neither the number nor a refusal shows what anybody did.
"""

import math
import os
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedrec.data import datasets, splits
from fedrec.data.catalogue import Catalogue
from fedrec.data.columns import CatalogueColumns, LogColumns
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.data.folder import data_folder
from fedrec.data.histories import Histories
from fedrec.data.local_rules import LocalRules
from fedrec.data.public import check_public
from fedrec.data.readers import GENERATED
from fedrec.errors import InputError, first_line
from fedrec.federation.data_request import DataRequest, parse_data
from fedrec.federation.hosted import shard
from fedrec.plugins import check_plugins
from fedrec.settings import Settings, parse
from fedrec.wire import WireError
from fedrec_client.ages import allowed_ages
from fedrec_client.consent.policy import DataPolicy
from fedrec_client.hosted_data import Find, Hosted
from fedrec_client.node_config import VIRTUAL, ConfigError, Value


class OwnColumns(Settings):
    """The file `columns` of a node: how its own log and catalogue are written."""

    columns: LogColumns = LogColumns()
    """As the table `[data.columns]` of a scenario."""
    catalogue_columns: CatalogueColumns = CatalogueColumns()
    """As the table `[data.catalogue_columns]` of a scenario."""


@dataclass(frozen=True)
class OwnFiles:
    """A node's own files: events, the run's public items, and attributes of users; None for no attributes."""

    events: Path
    items: Path
    people: Path | None = None


def finder(config: Mapping[str, Value], policy: DataPolicy = DataPolicy()) -> Find:
    """What finds the users of a node with this configuration.

    Args:
        config: the node's.
        policy: ages of the events that may be used, of data of its own, and whether attributes may be.
    Raises: ConfigError when the configuration names no users.
    """
    if "data" in config:
        events, items = _own_files(config)
        columns = _own_columns(config.get("columns"))
        people = Path(str(config["people"])).expanduser() if "people" in config and policy.attributes else None
        users = config.get("users")
        if users is not None and (type(users) is not int or users < 1):
            raise ConfigError(f"users={users}: must be a whole number above 0")
        files = OwnFiles(events, items, people)
        return lambda request: _own(request, files, columns, users, allowed_ages(policy, time.time()))
    if "partition-id" not in config or "num-partitions" not in config:
        raise ConfigError('the node knows no users: give --node-config \'data="FILE" catalogue="FILE"\', or a shard')
    place, of = config["partition-id"], config["num-partitions"]
    if type(place) is not int or type(of) is not int or not 0 <= place < of:
        raise ConfigError(f"partition-id={place} num-partitions={of}: must be whole numbers, the first one below")
    folder = data_folder(str(config.get("data-dir") or ""))
    try:
        served = check_public(str(config.get("datasets") or ",".join(GENERATED)).split(","))
    except InputError as error:
        raise ConfigError(str(error)) from None
    return lambda request: _shard(request, place, of, folder, served)


def allowed_plugins(config: Mapping[str, Value], policy: Iterable[str] = ()) -> frozenset[str] | None:
    """Names of the plug-ins that a node with this configuration may run; None, in a simulation's virtual node, for all.

    Args:
        config: the node's.
        policy: names that its policy allows besides.
    Raises: ConfigError for a name that no installed package brings.
    """
    if os.environ.get(VIRTUAL) == "1":
        return None
    try:
        return check_plugins([*filter(None, str(config.get("plugins", "")).split(",")), *policy])
    except InputError as error:
        raise ConfigError(str(error)) from None


def _shard(request: str, place: int, of: int, folder: Path | None, served: frozenset[str]) -> Hosted:
    wanted = parse_data(request)
    virtual = os.environ.get(VIRTUAL) == "1"
    if wanted.data.files and not virtual:
        raise ConfigError("the run names a file; a node reads files only that its own configuration names")
    if not virtual and wanted.data.name not in served:
        raise WireError("dataset", f"the run names a dataset that is not among {', '.join(sorted(served))}")
    train, catalogue = _public(request, folder)
    return Hosted(train.select(shard(len(train), place, of)), catalogue, place, public=True)


@lru_cache(maxsize=1)
def _public(request: str, folder: Path | None) -> tuple[Histories, Catalogue]:
    wanted = parse_data(request)
    dataset = datasets.load(wanted.data, folder, wanted.seed)
    split = splits.split(dataset, wanted.data.split, wanted.on, wanted.seed)
    return split.train, split.training_catalogue(dataset.catalogue)


@lru_cache(maxsize=1)
def _own(request: str, files: OwnFiles, columns: OwnColumns, users: int | None, ages: tuple[float, float]) -> Hosted:
    wanted = parse_data(request)
    if wanted.data.people is not None:
        raise ConfigError("the run asks for data.people; attributes of users stay with the node")
    config = DataConfig(
        name="file",
        path=files.events,
        columns=columns.columns,
        catalogue=files.items,
        people=files.people,
        catalogue_columns=columns.catalogue_columns,
        ordered="lines" if wanted.data.ordered == "lines" else True,
        repeats=wanted.data.repeats,
    )
    dataset = _own_log(config, wanted.seed)
    kept = _cleaned(_aged(_filtered(dataset, wanted), *ages), wanted)
    if not wanted.data.ordered:
        kept = kept.forgotten(wanted.seed)
    return Hosted(_with_places(_newest(kept, wanted), users), dataset.catalogue)


@lru_cache(maxsize=1)
def _own_log(config: DataConfig, seed: int) -> Dataset:
    """The node's whole log: its own files and columns, and of the run only what decides no user's being there."""
    return datasets.load(config, None, seed)


def _filtered(dataset: Dataset, request: DataRequest) -> Histories:
    """Every user of the log, with the events that the run's `min_rating` leaves."""
    histories, least = dataset.histories, request.data.min_rating
    if least is None:
        return histories
    if histories.ratings is None:
        raise ConfigError("the run asks for data.min_rating, and the log has no ratings")
    kept = histories.keep(histories.ratings >= least)
    if not request.data.dropped_as_negatives:
        return kept
    liked, low = (part.owners * part.n_items + part.items for part in (kept, histories))
    return replace(kept, disliked=histories.keep((histories.ratings < least) & ~np.isin(low, liked)))


def _aged(histories: Histories, oldest: float, before: float) -> Histories:
    """The same users with the events of an allowed age. An event without a time has none that is allowed."""
    if (oldest, before) == (-math.inf, math.inf):
        return histories
    disliked = None if histories.disliked is None else _aged(histories.disliked, oldest, before)
    times = histories.times
    allowed = np.zeros(len(histories.items), dtype=bool) if times is None else (times >= oldest) & (times < before)
    return replace(histories.keep(allowed), disliked=disliked)


def _cleaned(histories: Histories, request: DataRequest) -> Histories:
    """Apply the run's local rules, those of a simulation. A log without times or ratings stays as it is."""
    if request.data.cleaning is None:
        return histories
    if request.data.cleaning.item_means is not None:
        raise ConfigError(
            "the run names a file of item means; a node reads files only that its own configuration names"
        )
    return LocalRules(request.data.cleaning)(histories, request.seed)


def _newest(train: Histories, request: DataRequest) -> Histories:
    most = request.data.balance.most_events
    return train if most is None else train.keep(train.positions_from_end() < most)


def _with_places(histories: Histories, users: int | None) -> Histories:
    """As many users as the node declares: places that nobody takes yet are users without events."""
    free = 0 if users is None else users - len(histories)
    if free < 0:
        raise ConfigError(f"users={users}: the log has {len(histories)} users; declare at least as many")
    known, disliked = histories.identities, histories.disliked
    return replace(
        histories,
        offsets=np.pad(histories.offsets, (0, free), mode="edge"),
        identities=None if known is None else np.pad(known, (0, free)),
        disliked=None if disliked is None else _with_places(disliked, users),
        people=None if histories.people is None else histories.people.with_strangers(free),
    )


def _own_files(config: Mapping[str, Value]) -> tuple[Path, Path]:
    events, given = Path(str(config["data"])).expanduser(), config.get("catalogue")
    if events.is_dir():
        folder = events
        events = _one(folder, "events")
        return events, Path(str(given)) if given else _one(folder, "catalogue")
    if not events.is_file():
        raise ConfigError(f"data={events}: no such file or folder")
    if not given:
        raise ConfigError("data without catalogue: items taken from private events would reveal them; give the run's")
    return events, Path(str(given))


def _own_columns(file: Value | None) -> OwnColumns:
    if file is None:
        return OwnColumns()
    try:
        return parse(OwnColumns, tomllib.loads(Path(str(file)).read_text(encoding="utf-8-sig")), f"columns={file}")
    except (OSError, ValueError, InputError) as error:
        raise ConfigError(f"columns={file}: {first_line(error)}") from None


def _one(folder: Path, stem: str) -> Path:
    found = [file for file in sorted(folder.iterdir()) if file.name.split(".")[0] == stem]
    if len(found) != 1:
        raise ConfigError(f"data={folder}: must hold one file {stem}.csv, .parquet or the like; found {len(found)}")
    return found[0]
