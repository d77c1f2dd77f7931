"""Gowalla check-ins as split by NGCF and LightGCN (Wang et al. 2019, He et al. 2020), as one parquet file."""

from pathlib import Path

import polars as pl

from fedrec.data.log import Log
from fedrec.data.tables import need, read_parquet, typed_events


def read_gowalla(folder: Path) -> Log:
    """`interactions.parquet`: user_id, item_id, split (train, valid or test). The order of visits is not known."""
    need(folder, "interactions.parquet")
    file = folder / "interactions.parquet"
    table = read_parquet(file, ("user_id", "item_id", "split"))
    part = table["split"].cast(pl.String).replace_strict({"train": 0, "valid": 1, "test": 2}, return_dtype=pl.UInt8)
    return Log(str(folder), typed_events(table, file).with_columns(part.alias("part")))
