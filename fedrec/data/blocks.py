"""The catalogue built from a table of items: each column becomes a public feature block by its type."""

import contextlib
from collections.abc import Mapping

import numpy as np
import polars as pl

from fedrec.data.catalogue import Block, Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.errors import InputError

_LABELS = (pl.String, pl.Categorical, pl.Enum, pl.Null)


def catalogue(
    ids: pl.Series,
    table: pl.DataFrame | None = None,
    source: str = "catalogue",
    encoders: Mapping[str, str] | None = None,
) -> Catalogue:
    """Build the catalogue of the items `ids` with the features of `table`.

    Text becomes Texts (`title` always does), numbers become Numbers, lists of labels become Categories, and lists of
    numbers become Vectors. An item that the table lacks gets an empty text, an unknown number, no label or a vector of
    zeros.

    Args:
        ids: (items,) unique ids in catalogue order.
        table: a column `item` and one column a feature; None for no features.
        source: name of the table in messages.
        encoders: vector column -> text that names its encoder.

    Raises:
        InputError: for an id that occurs twice in the table, or a column of another type.
    """
    names = tuple(ids.cast(pl.String).to_list())
    if table is None:
        return Catalogue(names)
    if table["item"].is_duplicated().any():
        twice = table["item"].filter(table["item"].is_duplicated())[0]
        raise InputError(f"{source}: item {twice} occurs twice; keep one row an item")
    features = [_feature(column, source) for column in table.drop("item")]
    table = pl.DataFrame([table["item"], *features])
    rows = pl.DataFrame({"item": ids}).join(table, on="item", how="left", maintain_order="left")
    titles = tuple(rows["title"].fill_null("").to_list()) if "title" in rows.columns else None
    columns = [rows[name] for name in rows.columns if name != "item"]
    return Catalogue(names, titles, tuple(_block(each, (encoders or {}).get(each.name, "")) for each in columns))


def _feature(column: pl.Series, source: str) -> pl.Series:
    """Convert `column` to text, float64, list of text or array of float32. Raises: InputError for another type."""
    wanted = _wanted(column)
    if wanted is not None:
        with contextlib.suppress(pl.exceptions.PolarsError):  # durations, bytes that are no text
            feature = column.cast(wanted)
            return _vectors(feature, source) if wanted == pl.List(pl.Float32) else feature
    allowed = "text" if column.name == "title" else "numbers, text, or lists of numbers or of text"
    raise InputError(f"{source}: column '{column.name}' holds {column.dtype}; make it {allowed}")


def _wanted(column: pl.Series) -> pl.DataType | None:
    dtype = column.dtype
    if column.name == "title":
        return None if dtype.is_nested() else pl.String()
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        return pl.List(pl.Float32()) if inner.is_numeric() else pl.List(pl.String()) if inner in _LABELS else None
    if dtype.is_nested():
        return None
    return pl.Float64() if dtype.is_numeric() or dtype == pl.Boolean else pl.String()


def _vectors(column: pl.Series, source: str) -> pl.Series:
    """Convert lists of numbers to arrays of one width. Raises: InputError naming the row of another width."""
    rows, known = np.flatnonzero(column.is_not_null().to_numpy()) + 1, column.drop_nulls()
    lengths = known.list.len().to_numpy()
    if not lengths.any():
        raise InputError(f"{source}: column '{column.name}' holds no number in any row; fill it or drop it")
    width = int(lengths[0])
    for row, length in zip(rows[lengths != width], lengths[lengths != width], strict=True):
        raise InputError(
            f"{source}, row {row}: '{column.name}' has {length} numbers, row {rows[0]} has {width}; give each item as "
            "many, or null where it has none, and write labels as text"
        )
    for place in np.flatnonzero(~np.isfinite(known.explode().to_numpy())):
        raise InputError(
            f"{source}, row {rows[place // width]}: '{column.name}' holds what is no finite number; mend it, or make "
            "the whole vector null"
        )
    return column.cast(pl.Array(pl.Float32(), width))


def _block(column: pl.Series, encoder: str) -> Block:
    if isinstance(column.dtype, pl.List):
        return _categories(column)
    if isinstance(column.dtype, pl.Array):
        values = np.zeros((len(column), *column.dtype.shape), dtype=np.float32)
        values[column.is_not_null().to_numpy()] = column.drop_nulls().to_numpy()
        return Vectors(column.name, values, encoder)
    if column.dtype.is_numeric():
        return Numbers(column.name, column.fill_null(float("nan")).to_numpy())
    return Texts(column.name, tuple(column.fill_null("").to_list()))


def _categories(column: pl.Series) -> Categories:
    pairs = pl.DataFrame({"row": np.arange(len(column)), "label": column}).explode("label").drop_nulls()
    pairs = pairs.filter(pl.col("label") != "")
    labels = pairs["label"].unique().sort()
    membership = np.zeros((len(column), len(labels)), dtype=bool)
    membership[pairs["row"].to_numpy(), labels.search_sorted(pairs["label"]).to_numpy()] = True
    return Categories(column.name, tuple(labels.to_list()), membership)
