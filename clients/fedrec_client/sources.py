"""Where a node's users are, by its `--node-config`: a shard of a public dataset, or data of its own.

| key | meaning |
|---|---|
| `partition-id`, `num-partitions` | users i of n nodes, in order, of the dataset that the run names |
| `data-dir` | where that dataset lies; the environment's FEDREC_DATA if left out |
| `data` | instead: a log of its own (parquet, CSV, TSV, .inter), or a folder with `events.*` and `catalogue.*` |
| `catalogue` | the public items of the run, with `data`: the same file that the server has |
| `without-privacy` | with `data`: true lets it take part in runs that clip and noise nothing |
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fedrec.data import datasets, splits
from fedrec.data.balance import BalanceConfig
from fedrec.data.catalogue import Catalogue
from fedrec.data.histories import Histories
from fedrec.federation.exchange import parse_data
from fedrec.federation.hosted import shard
from fedrec_client.node import ConfigError, Find, Hosted

Value = str | int | float | bool


def finder(config: Mapping[str, Value]) -> Find:
    """What finds the users of a node with this configuration. Raises: ConfigError when it names none."""
    if "data" in config:
        events, items = _own_files(config)
        allowed = config.get("without-privacy", False) is True
        return lambda request: _own(request, events, items, allowed)
    if "partition-id" not in config or "num-partitions" not in config:
        raise ConfigError('the node knows no users: give --node-config \'data="FILE" catalogue="FILE"\', or a shard')
    place, of = config["partition-id"], config["num-partitions"]
    if type(place) is not int or type(of) is not int or not 0 <= place < of:
        raise ConfigError(f"partition-id={place} num-partitions={of}: must be whole numbers, the first one below")
    folder = str(config.get("data-dir") or os.environ.get("FEDREC_DATA") or "")
    return lambda request: _shard(request, place, of, folder)


def _shard(request: str, place: int, of: int, folder: str) -> Hosted:
    train, catalogue = _public(request, folder)
    return Hosted(train.select(shard(len(train), place, of)), catalogue, place, public=True)


@lru_cache(maxsize=1)
def _public(request: str, folder: str) -> tuple[Histories, Catalogue]:
    asked = parse_data(request)
    if asked.data.files:
        raise ConfigError("the run names a file; a node reads files only that its own configuration names")
    dataset = datasets.load(asked.data, Path(folder) if folder else None, asked.seed)
    return splits.split(dataset, asked.data.split, asked.on, asked.seed).train, dataset.catalogue


@lru_cache(maxsize=1)
def _own(request: str, events: Path, items: Path, allowed: bool) -> Hosted:
    asked = parse_data(request)
    heeded = asked.data.model_dump(include={"min_rating", "ordered"})
    balance = BalanceConfig(most_events=asked.data.balance.most_events)
    config = datasets.DataConfig(name="file", path=events, catalogue=items, balance=balance, **heeded)
    dataset = datasets.load(config, None, asked.seed)
    return Hosted(dataset.balance(dataset.histories, asked.seed), dataset.catalogue, without_privacy=allowed)


def _own_files(config: Mapping[str, Value]) -> tuple[Path, Path]:
    events, given = Path(str(config["data"])), config.get("catalogue")
    if events.is_dir():
        folder = events
        events = _one(folder, "events")
        return events, Path(str(given)) if given else _one(folder, "catalogue")
    if not events.is_file():
        raise ConfigError(f"data={events}: no such file or folder")
    if not given:
        raise ConfigError("data without catalogue: items taken from private events would tell of them; give the run's")
    return events, Path(str(given))


def _one(folder: Path, stem: str) -> Path:
    found = [file for file in sorted(folder.iterdir()) if file.stem == stem]
    if len(found) != 1:
        raise ConfigError(f"data={folder}: must hold one file {stem}.csv, .tsv or .parquet; found {len(found)}")
    return found[0]
