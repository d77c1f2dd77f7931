"""Gowalla check-ins as split by NGCF and LightGCN (Wang et al. 2019, He et al. 2020), as one parquet file."""

from pathlib import Path

import polars as pl

from fedrec.data.log import Log
from fedrec.data.tables import need, read_parquet, typed_events
from fedrec.errors import InputError


def read_gowalla(folder: Path) -> Log:
    """`interactions.parquet`: user_id, item_id, split (train, valid or test). The order of visits is not known."""
    need(folder, "interactions.parquet")
    file = folder / "interactions.parquet"
    table = read_parquet(file, ("user_id", "item_id", "split"))
    codes = {"train": 0, "valid": 1, "test": 2}
    part = table["split"].cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.UInt8)
    if part.null_count():
        raise InputError(f"{file}: 'split' must be train, valid or test in every row; {part.null_count()} rows differ")
    return Log(str(folder), typed_events(table, file).with_columns(part.alias("part")))
