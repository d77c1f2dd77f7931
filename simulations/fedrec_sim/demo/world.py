"""The world of the demo: a catalogue with titles, and the other people, on a few hubs."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fedrec.data import datasets
from fedrec.data.catalogue import Categories, Numbers
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.recommend.public_items import public_items
from fedrec.recommend.run_items import run_items

REAL = "ml-100k"
"""The dataset whose titles are shown where its files are at hand."""
PEOPLE, ITEMS = 400, 120
"""Of the generated world."""


@dataclass(frozen=True)
class Thing:
    """An item as the page shows it. Attributes: item: its id; title; kinds: its genres; year: None where unknown."""

    item: str
    title: str
    kinds: tuple[str, ...]
    year: int | None


@dataclass(frozen=True)
class World:
    """The files of the demo.

    Attributes:
        name: of the catalogue, for people.
        people: number of the other people.
        things: the catalogue.
        log: all events of the other people, a file that only the first model is trained on.
        catalogue: the public items, a file that server and devices share.
        public: public features of the items, for the device.
        run_items: the items as a device that takes part reads them.
        hubs: the events of each hub's people.
    """

    name: str
    people: int
    things: tuple[Thing, ...]
    log: Path
    catalogue: Path
    public: Path
    run_items: Path
    hubs: tuple[Path, ...]


def make_world(folder: Path, data_dir: Path | None, seed: int = 1, hubs: int = 3) -> World:
    """Write the files of the demo.

    Args:
        folder: where to write them.
        data_dir: the folder of datasets; a real catalogue is used where it has one.
        seed: of the generated world.
        hubs: on so many of which the other people are.
    """
    real = data_dir is not None and (data_dir / REAL).is_dir()
    config = DataConfig(name=REAL) if real else DataConfig(name="quickstart", users=PEOPLE, items=ITEMS)
    found = datasets.load(config, data_dir, seed)
    things = _things(found)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = datasets.read(config, data_dir, seed)
    events = log.events.select(
        pl.col("user").cast(pl.String).alias("user_id"),
        pl.col("item").cast(pl.String).alias("item_id"),
        pl.col("timestamp"),
    )
    table = pl.DataFrame(
        {
            "item_id": [each.item for each in things],
            "title": [each.title for each in things],
            "genres": [list(each.kinds) for each in things],
            "year": [each.year for each in things],
        }
    )
    table.write_parquet(folder / "items.parquet")
    events.write_parquet(folder / "everyone.parquet")
    people = events["user_id"].unique(maintain_order=True)
    logs = [folder / f"hub-{place}.parquet" for place in range(hubs)]
    for place, file in enumerate(logs):
        mine = people.gather_every(hubs, place).to_list()
        events.filter(pl.col("user_id").is_in(mine)).write_parquet(file)
    public_items(found.catalogue).write(folder / "public.safetensors")
    known = datasets.public_catalogue(DataConfig(name="nodes", catalogue=folder / "items.parquet"), None, seed)[0]
    run_items(known).write(folder / "run-items.json")
    name = "MovieLens 100K" if real else "a generated video library"
    return World(
        name,
        len(people),
        things,
        folder / "everyone.parquet",
        folder / "items.parquet",
        folder / "public.safetensors",
        folder / "run-items.json",
        tuple(logs),
    )


def _things(found: Dataset) -> tuple[Thing, ...]:
    kinds: list[tuple[str, ...]] = [()] * len(found.catalogue)
    years: list[int | None] = [None] * len(found.catalogue)
    for block in found.catalogue.blocks:
        if isinstance(block, Categories) and not any(kinds):
            kinds = [
                tuple(label for label, has in zip(block.labels, row, strict=True) if has) for row in block.membership
            ]
        elif isinstance(block, Numbers) and "year" in block.name:
            years = [int(value) if value == value else None for value in block.values]
    names = found.catalogue.titles or found.catalogue.ids
    return tuple(map(Thing, found.catalogue.ids, names, kinds, years))
