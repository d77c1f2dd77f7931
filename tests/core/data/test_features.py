"""Columns of a catalogue file become features by their type; one line names a column that cannot."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fedrec.data.catalogue import Catalogue, Categories, Texts, Vectors
from fedrec.data.datasets import DataConfig, load
from fedrec.errors import InputError
from fedrec.kernels.public import public_kernels

LOG = "user_id,item_id\nann,a\nann,b\nbob,c\n"


def catalogue_of(folder: Path, items: pl.DataFrame | str) -> Catalogue:
    """The catalogue of items a, b, c (and more): a table is written as parquet, text as CSV."""
    log, file = folder / "log.csv", folder / f"items.{'csv' if isinstance(items, str) else 'parquet'}"
    log.write_text(LOG)
    if isinstance(items, str):
        file.write_text(items)
    else:
        items.write_parquet(file)
    return load(DataConfig(path=log, catalogue=file), None, seed=0).catalogue


def column(name: str, values: list[Any], dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"item_id": list("abc"), name: pl.Series(values, dtype=dtype)})


@pytest.mark.parametrize(
    "titles",
    [
        ["Alien | Director's Cut", "Brazil", "Cube"],
        ["1984", "300", "007"],
        ["1984", "", "2.50"],
        ["nan", "1", "inf"],
    ],
)
def test_titles_are_text_as_they_are_written(tmp_path: Path, titles: list[str]) -> None:
    rows = "".join(f"{item},{title}\n" for item, title in zip("abc", titles, strict=True))
    found = catalogue_of(tmp_path, f"item_id,title\n{rows}")
    assert found.titles == tuple(titles)
    assert found.blocks == (Texts("title", tuple(titles)),)
    assert catalogue_of(tmp_path, column("title", titles)).titles == tuple(titles)


def test_titles_of_any_type_of_parquet_are_text(tmp_path: Path) -> None:
    assert catalogue_of(tmp_path, column("title", [1984, None, 300])).titles == ("1984", "", "300")
    found = catalogue_of(tmp_path, column("title", ["x|y", None, "z"], pl.Categorical))
    assert found.blocks == (Texts("title", ("x|y", "", "z")),)


VECTORS = [[1.0, 2.0], None, [3.0, 4.0]]


@pytest.mark.parametrize(
    "dtype",
    [pl.List(pl.Float64), pl.List(pl.Float32), pl.List(pl.Int64), pl.Array(pl.Float64, 2), pl.Array(pl.UInt8, 2)],
)
def test_lists_of_as_many_numbers_are_vectors(tmp_path: Path, dtype: Any) -> None:
    values = VECTORS if dtype.inner.is_float() else [[1, 2], None, [3, 4]]
    items = column("picture", values, dtype)[[2, 0, 1]]  # the file's order is not the catalogue's
    (found,) = (catalogue := catalogue_of(tmp_path, items)).blocks
    assert isinstance(found, Vectors)
    assert found.values.dtype == np.float32
    assert found.values.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert set(public_kernels(catalogue).maps) == {"picture"}


@pytest.mark.parametrize("dtype", [pl.List(pl.String), pl.Array(pl.String, 2), pl.List(pl.Categorical)])
def test_lists_of_text_are_labels(tmp_path: Path, dtype: Any) -> None:
    (found,) = catalogue_of(tmp_path, column("tags", [["x", "y"], None, ["z", "x"]], dtype)).blocks
    assert isinstance(found, Categories)
    assert found.labels == ("x", "y", "z")
    assert found.membership.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (column("v", [None, [1.0, 2.0], [3.0]]), ", row 3: 'v' has 1 numbers, row 2 has 2"),
        (column("v", [[1], [], [3]]), ", row 2: 'v' has 0 numbers, row 1 has 1"),
        (column("v", [None, [1.0, 2.0], [float("nan"), 3.0]]), ", row 3: 'v' holds what is no finite number"),
        (column("v", [[1.0, 2.0], [None, 1.0], None]), ", row 2: 'v' holds what is no finite number"),
        (column("v", [[1.0], [1e300], [2.0]]), ", row 2: 'v' holds what is no finite number"),
        (column("v", [None, [], []], pl.List(pl.Float32)), ": column 'v' holds no number in any row"),
        (column("v", [None] * 3, pl.Array(pl.Float32, 2)), ": column 'v' holds no number in any row"),
        (column("v", [[[1], [2]], [], [[3]]]), r": column 'v' holds List\(List\(Int64\)\); make it numbers, text, or"),
        (column("v", [[[1, 2]]] * 3, pl.Array(pl.Int8, (1, 2))), ": column 'v' holds Array"),
        (column("v", [{"x": 1}] * 3), ": column 'v' holds Struct"),
        (column("v", [[True], [False], []]), r": column 'v' holds List\(Boolean\)"),
        (column("v", [timedelta(1)] * 3), ": column 'v' holds Duration"),
        (column("v", [b"\xff"] * 3), ": column 'v' holds Binary"),
        (column("title", [["x"], ["y"], ["z"]]), r": column 'title' holds List\(String\); make it text"),
        (column("item", [1, 2, 3]), ": has a column 'item' beside 'item_id'"),
        ("item_id,item\na,1\nb,2\nc,3\n", ": has a column 'item' beside 'item_id'"),
    ],
)
def test_what_is_no_feature_is_refused_in_one_line(tmp_path: Path, items: pl.DataFrame | str, message: str) -> None:
    with pytest.raises(InputError, match=rf"items\.(csv|parquet){message}") as caught:
        catalogue_of(tmp_path, items)
    assert "\n" not in str(caught.value)


def one_label(count: int) -> str:
    """A catalogue in which each of three genres is written on `count` items, in some spellings of space."""
    rows = [f"i{number},{('Drama', ' War ', 'Sci Fi')[number % 3]}\n" for number in range(3 * count)]
    return "item_id,genre\n" + "".join([*rows, "a,\n", "b,N/A\n", "c,Drama\n"])


def test_a_text_that_many_items_share_is_a_label(tmp_path: Path) -> None:
    (block,) = catalogue_of(tmp_path, one_label(5)).blocks
    assert isinstance(block, Categories)
    assert block.membership.shape[1] == 3
    assert (block.membership.sum(1) == 1).sum() == 16, "unknown cells have no label"
    kernels = public_kernels(catalogue_of(tmp_path, one_label(5)))
    assert kernels.maps, "what many items share is not dropped as a common word"


def test_text_that_hardly_repeats_stays_text(tmp_path: Path) -> None:
    (block,) = catalogue_of(tmp_path, one_label(4).replace("c,Drama", "c,Comedy")).blocks
    assert isinstance(block, Texts)


def test_a_column_that_is_named_as_text_stays_text(tmp_path: Path) -> None:
    log, file = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text(LOG)
    file.write_text(one_label(5))
    config = DataConfig.model_validate({"path": log, "catalogue": file, "catalogue_columns": {"text": ["genre"]}})
    assert isinstance(load(config, None, seed=0).catalogue.blocks[0], Texts)


def test_categories_of_parquet_are_labels(tmp_path: Path) -> None:
    items = [*"abc", *(f"i{number}" for number in range(12))]
    table = pl.DataFrame({"item_id": items, "brand": pl.Series(["x", "y", None] * 5, dtype=pl.Categorical)})
    (block,) = catalogue_of(tmp_path, table).blocks
    assert isinstance(block, Categories)
    assert block.membership.sum() == 10
