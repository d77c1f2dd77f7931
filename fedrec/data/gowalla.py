"""Reader of Gowalla check-ins: the split of NGCF and LightGCN as one parquet file, or the whole log of SNAP.

Sources: Wang et al. 2019 (NGCF), He et al. 2020 (LightGCN), Cho, Myers, Leskovec 2011
(https://snap.stanford.edu/data/loc-gowalla.html).
"""

from pathlib import Path

import polars as pl

from fedrec.data.events import typed_events
from fedrec.data.features import numbers
from fedrec.data.ids import ids
from fedrec.data.log import Log
from fedrec.data.tables import need, read_delimited, read_parquet
from fedrec.errors import InputError

_SNAP = "loc-gowalla_totalCheckins.txt"


def read_gowalla(folder: Path) -> Log:
    """Read `interactions.parquet` or `loc-gowalla_totalCheckins.txt` (perhaps `.gz`).

    The parquet file has user_id, item_id and split (train, valid or test), and no order of visits. The text file has
    times, and each place's latitude and longitude.
    """
    for name in (_SNAP, f"{_SNAP}.gz"):
        if (folder / name).is_file() and not (folder / "interactions.parquet").is_file():
            return _check_ins(folder / name)
    need(folder, "interactions.parquet")
    file = folder / "interactions.parquet"
    table = read_parquet(file, ("user_id", "item_id", "split"))
    codes = {"train": 0, "valid": 1, "test": 2}
    part = table["split"].cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.UInt8)
    if part.null_count():
        raise InputError(f"{file}: 'split' must be train, valid or test in every row; {part.null_count()} rows differ")
    return Log(str(folder), typed_events(table, file).with_columns(part.alias("part")))


def _check_ins(file: Path) -> Log:
    table = read_delimited(file, "\t", ("user_id", "timestamp", "latitude", "longitude", "item_id"))
    where = [numbers(table[name], file) for name in ("latitude", "longitude")]
    places = pl.DataFrame([ids(table["item_id"], file).alias("item"), *where])
    places = places.sort(
        "item", "latitude", "longitude", nulls_last=True
    )  # places that moved: whatever the lines' order
    return Log(str(file), typed_events(table, file), items=places.unique("item", keep="first", maintain_order=True))
