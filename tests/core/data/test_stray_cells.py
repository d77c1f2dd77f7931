"""A few stray cells in a column of numbers are missing values, or one line; they never turn the column into text."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.catalogue import Block, Categories, Numbers, Texts
from fedrec.data.datasets import DataConfig, load
from fedrec.data.features import MARKS
from fedrec.errors import InputError

ITEMS = 40


def block(folder: Path, cells: list[str] | pl.Series, name: str = "year", **settings: object) -> Block:
    """The feature that a column with these cells becomes, in a catalogue of one's own: CSV, or parquet for a series."""
    ids = [f"i{n}" for n in range(len(cells))]
    (folder / "log.csv").write_text("user_id,item_id\n" + "".join(f"{n % 3},{item}\n" for n, item in enumerate(ids)))
    file = folder / f"items.{'csv' if isinstance(cells, list) else 'parquet'}"
    table = pl.DataFrame({"item_id": ids, name: cells})
    table.write_csv(file) if isinstance(cells, list) else table.write_parquet(file)
    config = {"path": folder / "log.csv", "catalogue": file, "catalogue_columns": settings}
    (found,) = load(DataConfig.model_validate(config), None, seed=0).catalogue.blocks
    return found


def by_id(values: np.ndarray) -> np.ndarray:
    """Values in the order of the file: the catalogue sorts ids as text."""
    order = sorted(range(len(values)), key=lambda n: f"i{n}")
    turned = np.empty(len(values))
    turned[order] = values
    return turned


def years(*stray: str) -> list[str]:
    cells = [str(1950 + n) for n in range(ITEMS)]
    for place, cell in enumerate(stray):
        cells[3 + 5 * place] = cell
    return cells


@pytest.mark.parametrize("mark", [*MARKS, "N/A", "NULL", r"\N", "Unknown", " - ", "NaN", "None", "#N/A"])
def test_the_usual_marks_are_unknown_numbers(tmp_path: Path, mark: str) -> None:
    found = block(tmp_path, years(mark, mark))
    assert isinstance(found, Numbers)
    values = by_id(found.values)
    assert np.isnan(values[[3, 8]]).all()
    assert np.delete(values, [3, 8]).tolist() == np.delete(1950.0 + np.arange(ITEMS), [3, 8]).tolist()


@pytest.mark.parametrize("stray", ["19x5", "c. 1950", "1950-51", "1,950", "inf", "1e", "TBA"])
def test_a_stray_cell_is_refused_with_line_and_value(tmp_path: Path, stray: str) -> None:
    with pytest.raises(InputError, match="line 5: 'year' = ") as caught:
        block(tmp_path, years(stray))
    message = str(caught.value)
    assert f"'{stray}' is no number, and 39 of 40 others are" in message
    assert "data.catalogue_columns.missing" in message
    assert "data.catalogue_columns.text" in message
    assert "\n" not in message


def test_settings_say_what_a_stray_cell_is(tmp_path: Path) -> None:
    found = block(tmp_path, years("TBA"), missing=("tba",))
    assert isinstance(found, Numbers)
    assert np.isnan(found.values).sum() == 1
    found = block(tmp_path, years("TBA"), text=("year",))
    assert isinstance(found, Texts)
    assert "TBA" in found.texts
    with pytest.raises(InputError, match="yeer"):
        block(tmp_path, years(), text=("yeer",))


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y/%m/%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%d/%m/%Y", "%d.%m.%Y"]
)
def test_dates_become_years_with_their_fraction(tmp_path: Path, form: str) -> None:
    days = [date(1990 + n, 1 + n % 12, 1 + n % 28) for n in range(ITEMS - 1)]
    cells = [f"{day:{form}}" for day in days] + ["N/A"]
    found = block(tmp_path, cells, "released")
    assert isinstance(found, Numbers)
    values = by_id(found.values)
    lengths = [365 + (day.year % 4 == 0) for day in days]
    expected = [day.year + (day.timetuple().tm_yday - 1) / length for day, length in zip(days, lengths, strict=True)]
    assert np.allclose(values[:-1], expected, atol=1e-6)
    assert np.isnan(values[-1])
    cells[3] = "soon"
    with pytest.raises(InputError, match="line 5: 'released' = 'soon' is no date"):
        block(tmp_path, cells, "released")


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.String])
def test_dates_of_parquet_are_the_same_numbers(tmp_path: Path, kind: pl.DataType) -> None:
    days = pl.Series([datetime(2000 + n, 7, 1) for n in range(10)] + [None])
    column = (
        days.dt.strftime("%Y-%m-%d")
        if kind == pl.String
        else days.dt.replace_time_zone("UTC").cast(kind)
        if (kind == pl.Datetime("us", "UTC"))
        else days.cast(kind)
    )
    found = block(tmp_path, column, "released")
    assert isinstance(found, Numbers)
    values = by_id(found.values)
    assert np.floor(values[:10]).tolist() == [2000.0 + n for n in range(10)]
    assert np.isnan(values[10])


def test_text_and_labels_stay_what_they_are(tmp_path: Path) -> None:
    names = [f"Unit {n}" for n in range(ITEMS - 2)] + [r"\N", "unknown"]
    found = block(tmp_path, names, "brand")
    assert isinstance(found, Texts)
    assert "" in found.texts
    assert "unknown" in found.texts, "a word among words"
    mixed = block(tmp_path, [str(n) if n % 2 else f"model {n}" for n in range(ITEMS)], "model")
    assert isinstance(mixed, Texts)
    labels = block(tmp_path, [*(str(n % 5) for n in range(ITEMS - 3)), "1|2", "3|4", "NULL"], "genres")
    assert isinstance(labels, Categories)
    assert labels.labels == ("0", "1", "2", "3", "4")


def test_a_stray_cell_of_a_column_that_must_be_a_number(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.inter").write_text("user_id:token\titem_id:token\nu\ta\nu\tb\nv\tc\n")
    items = tmp_path / "x" / "x.item"
    items.write_text("item_id:token\tprice:float\na\t1.5\nb\tN/A\nc\tunknown\n")
    (found,) = load(DataConfig(name="x"), tmp_path, seed=0).catalogue.blocks
    assert isinstance(found, Numbers)
    assert np.isnan(found.values).sum() == 2
    items.write_text("item_id:token\tprice:float\na\t1.5\nb\t$3\nc\t2\n")
    with pytest.raises(InputError, match=r"x\.item, line 3: 'price' = '\$3' is no number"):
        load(DataConfig(name="x"), tmp_path, seed=0)
