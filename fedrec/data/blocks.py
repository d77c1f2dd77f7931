"""The catalogue from a table of items: each column becomes a public feature block by its type."""

import numpy as np
import polars as pl

from fedrec.data.catalogue import Block, Catalogue, Categories, Numbers, Texts
from fedrec.errors import InputError


def catalogue(ids: pl.Series, table: pl.DataFrame | None = None, source: str = "catalogue") -> Catalogue:
    """The items `ids` (unique, in catalogue order) with the features of `table` (column `item` and features).

    Items that the table lacks get an empty text, an unknown number or no label. Raises: InputError when an id
    stands twice in the table.
    """
    names = tuple(ids.cast(pl.String).to_list())
    if table is None:
        return Catalogue(names)
    if table["item"].is_duplicated().any():
        twice = table["item"].filter(table["item"].is_duplicated())[0]
        raise InputError(f"{source}: item {twice} stands there twice; keep one row an item")
    rows = pl.DataFrame({"item": ids}).join(table, on="item", how="left", maintain_order="left")
    titles = tuple(rows["title"].fill_null("").to_list()) if "title" in rows.columns else None
    return Catalogue(names, titles, tuple(_block(rows[name]) for name in rows.columns if name != "item"))


def _block(column: pl.Series) -> Block:
    if isinstance(column.dtype, pl.List):
        return _categories(column)
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return Numbers(column.name, column.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return Texts(column.name, tuple(column.cast(pl.String).fill_null("").to_list()))


def _categories(column: pl.Series) -> Categories:
    pairs = pl.DataFrame({"row": np.arange(len(column)), "label": column}).explode("label").drop_nulls()
    pairs = pairs.filter(pl.col("label") != "")
    labels = pairs["label"].unique().sort()
    membership = np.zeros((len(column), len(labels)), dtype=bool)
    membership[pairs["row"].to_numpy(), labels.search_sorted(pairs["label"]).to_numpy()] = True
    return Categories(column.name, tuple(labels.to_list()), membership)
