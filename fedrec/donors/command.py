"""`fedrec data donor`: a public log's knowledge of items, as vector columns for another log's catalogue."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.data.folder import DataDir
from fedrec.screen import plain_console, say

if TYPE_CHECKING:
    import numpy as np

    from fedrec.data.datasets import Dataset


class Match(StrEnum):
    """What must be equal for two items to be the same."""

    ID = "id"
    TITLE = "title"


def donor(
    log: Annotated[str, typer.Argument(help="The public log: a dataset of `fedrec data list`, or a file.")],
    target: Annotated[str, typer.Option("--for", help="The dataset or log whose catalogue gets the vectors.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The parquet file to write, for data.vectors.")],
    match: Annotated[Match, typer.Option(help="Items are the same by id, or by title and year.")] = Match.ID,
    width: Annotated[int, typer.Option(min=1, max=1024, help="Numbers a vector.")] = 32,
    column: Annotated[str, typer.Option(help="Name of the column.")] = "donor",
    drop_active: Annotated[
        str, typer.Option(metavar="DAY..DAY", help="Drop donor users with an event from one day to before another.")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Benchmarks: count donor users whose history is like one of the log's.")
    ] = False,
    drop_alike: Annotated[
        float | None, typer.Option(min=0, max=1, help="Benchmarks: drop donor users above this Jaccard index.")
    ] = None,
    kept_log: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the kept users' events and the donor's items.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make vectors of a catalogue's items from a public donor log, whose people must not be in the private log.

    The vectors are public features, and cost no budget. With people of the private log among the donor's they give away
    what those people did: drop everybody who was active in the private log's period, a public fact. --check and
    --drop-alike compare histories, which looks at private data; they are for benchmarks, and the statement of a run
    says that it was done.

    Donor, digest, rule and the number of users that it dropped are named in the file. They are part of the catalogue's
    digest and of a run's statement.

    Examples:

    - `fedrec data donor ml-latest-small --for ml-1m --drop-active 2000-04-01..2003-03-01 --check --out donor.parquet`

    - `fedrec simulate ml-1m-dp --set data.vectors=donor.parquet`
    """
    import numpy as np
    import polars as pl

    from fedrec.data.encoded import write
    from fedrec.data.matching import positions
    from fedrec.donors.overlap import active, likeness
    from fedrec.donors.vectors import digest, spectral
    from fedrec.errors import InputError

    source, other = _load(log, data_dir), _load(target, data_dir)
    people, items = source.histories, other.catalogue
    place = _inverse(positions(items, source.catalogue, match.value), len(source.catalogue))
    drop, rules = np.zeros(len(people), bool), []
    if drop_active:
        if people.times is None:
            raise InputError(f"--drop-active: the events of {log} have no times; leave it out, or take another donor")
        found = active(people, *_period(drop_active))
        rules.append(f"{int(found.sum())} with an event in {drop_active}")
        drop |= found
    if check or drop_alike is not None:
        alike = likeness(people, other.histories, place)
        for level, (jaccard, rarity) in alike.counts().items():
            left = int((alike.jaccard[~drop] > level).sum())
            say(
                f"Histories alike above {level:g}: {jaccard} of {len(people)} donor users by Jaccard, {rarity} "
                f"weighted by rarity; {left} of the first are left (a look at {target}, which no epsilon covers)"
            )
        if drop_alike is not None:
            found = alike.jaccard > drop_alike
            rules.append(
                f"{int((found & ~drop).sum())} more by comparing histories with the private log, Jaccard above "
                f"{drop_alike:g}: a look at private data, which no epsilon covers"
            )
            drop |= found
    vectors = spectral(people, ~drop, place, len(items), width)
    known = np.asarray(vectors.any(1))
    rule = "; ".join(rules) or "no rule: people of the private log may be among them"
    about = (
        f"donor log {source.name} (SHA-256 of what was kept {digest(people, source.catalogue.ids, ~drop)}), items by "
        f"{match.value}, spectral, {width} numbers; nothing protects its people; users dropped: {int(drop.sum())} of "
        f"{len(people)} ({rule})"
    )
    rows = [row.tolist() if row.any() else None for row in vectors]
    table = pl.DataFrame({"item_id": list(items.ids), column: pl.Series(rows, dtype=pl.List(pl.Float32))})
    write(table, {column: about}, out)
    if kept_log is not None:
        _write_log(source, ~drop, kept_log)
    console = plain_console(soft_wrap=True)
    console.print(f"{out}: {int(known.sum()):,} of {len(items):,} items have a vector. {about}", highlight=False)


def _load(name: str, data_dir: Path | None) -> "Dataset":
    from fedrec.data.datasets import DataConfig, load

    file = Path(name).expanduser()
    config = DataConfig(path=file) if file.suffix and file.is_file() else DataConfig(name=name)
    return load(config, data_dir, seed=0)


def _inverse(found: "np.ndarray", others: int) -> "np.ndarray":
    """Turn each item's place in the donor into each donor item's place here, -1 for none."""
    import numpy as np

    place = np.full(others, -1, dtype=np.int64)
    here = np.flatnonzero(found >= 0)
    place[found[here]] = here
    return place


def _period(text: str) -> tuple[float, float]:
    from datetime import UTC, datetime

    from fedrec.errors import InputError

    try:
        start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in text.split(".."))
    except ValueError:
        raise InputError(f"--drop-active {text}: must be DAY..DAY, e.g. 2000-04-01..2003-03-01") from None
    if start >= end:
        raise InputError(f"--drop-active {text}: ends before it begins; give the earlier day first")
    return start, end


def _write_log(source: "Dataset", kept: "np.ndarray", folder: Path) -> None:
    """Write `events.parquet` and `items.parquet` of the kept users, for a run of its own on them."""
    import numpy as np
    import polars as pl

    from fedrec.data.catalogue import Categories, Numbers

    people, catalogue = source.histories, source.catalogue
    owners = np.repeat(np.arange(len(people)), people.lengths)
    used = kept[owners]
    ids = np.array(catalogue.ids, dtype=object)
    events = {"user_id": owners[used], "item_id": ids[people.items[used]].tolist()}
    if people.times is not None:
        events["timestamp"] = people.times[used]
    items: dict[str, object] = {"item_id": list(catalogue.ids)}
    if catalogue.titles is not None:
        items["title"] = list(catalogue.titles)
    for block in catalogue.blocks:
        if isinstance(block, Numbers):
            items[block.name] = pl.Series(block.values).fill_nan(None)
        elif isinstance(block, Categories):
            items[block.name] = [[block.labels[at] for at in np.flatnonzero(row)] for row in block.membership]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(events).write_parquet(folder / "events.parquet")
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
