"""The public benchmarks: their published counts, and their other file formats."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.catalogue import Categories, Numbers, Texts
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.splits import split


@pytest.fixture(scope="module")
def ml_1m(data_dir: Path) -> Dataset:
    return load(DataConfig(name="ml-1m"), data_dir, seed=0)


def test_ml_1m_counts(ml_1m: Dataset) -> None:
    assert (len(ml_1m.histories), len(ml_1m.catalogue), len(ml_1m.histories.items)) == (6040, 3706, 1_000_209)
    title, year, genres = ml_1m.catalogue.blocks
    assert isinstance(title, Texts)
    assert isinstance(year, Numbers)
    assert isinstance(genres, Categories)
    assert (ml_1m.catalogue.ids[0], title.texts[0], year.values[0]) == ("1", "Toy Story", 1995)
    assert len(genres.labels) == 18
    assert not np.isnan(year.values).any()
    assert genres.membership.any(1).all()


def test_ml_1m_ncf_split(ml_1m: Dataset, data_dir: Path) -> None:
    test, validation = split(ml_1m, "ncf", "test", 0), split(ml_1m, "ncf", "validation", 0)
    published = pl.read_parquet(data_dir / "ml-1m" / "ncf_leave_one_out.parquet").sort("user_id")
    assert [ml_1m.catalogue.ids[item] for item in test.targets] == published["item_id"].cast(pl.String).to_list()
    assert len(test.train.items) == len(test.seen.items) == 994_169
    assert len(validation.train.items) == 994_169 - 6040
    order = pl.read_parquet(data_dir / "ml-1m" / "sequences.parquet")
    for user in (0, 17, 6039):  # the slow way: unordered items first, then the sequence, the test item taken out
        known = order.filter(pl.col("user_id") == user + 1).sort("position")["item_id"].to_list()
        target = published["item_id"][user]
        mine = [int(ml_1m.catalogue.ids[item]) for item in test.train.row(user)]
        tail = [item for item in known if item != target]
        assert mine[len(mine) - len(tail) :] == tail
        assert validation.targets[user] == test.train.row(user)[-1]
        assert validation.train.row(user).tolist() == test.train.row(user)[:-1].tolist()
    for negatives in (test.negatives, validation.negatives):
        assert negatives is not None
        known_pairs = test.train.owners * 3706 + test.train.items
        assert not np.isin(np.arange(6040)[:, None] * 3706 + negatives, known_pairs).any()
    # The held-out test item is a validation negative as often as chance has it: training never knows it.
    drawn = (validation.negatives == test.targets[:, None]).any(1).sum()
    assert 90 < drawn < 260


def test_ml_100k_counts_and_split(data_dir: Path) -> None:
    dataset = load(DataConfig(name="ml-100k", min_rating=4), data_dir, seed=0)
    assert (len(dataset.histories), len(dataset.catalogue), len(dataset.histories.items)) == (942, 1447, 55_375)
    test, validation = split(dataset, "leave-two-out", "test", 0), split(dataset, "leave-two-out", "validation", 0)
    assert len(test.train.items) == len(validation.train.items) == 55_375 - 2 * 942
    assert len(test.device.items) == 55_375 - 942
    assert all(test.device.row(user)[-1] == validation.targets[user] for user in range(942))


def test_ml_latest_small_and_gowalla_counts(data_dir: Path) -> None:
    small = load(DataConfig(name="ml-latest-small"), data_dir, seed=0)
    assert (len(small.histories), len(small.catalogue), len(small.histories.items)) == (610, 9724, 100_836)
    gowalla = load(DataConfig(name="gowalla"), data_dir, seed=0)
    assert (len(gowalla.histories), len(gowalla.catalogue), len(gowalla.histories.items)) == (29_858, 40_981, 1_027_370)
    test = split(gowalla, "given", "test", 0)
    assert len(test.train.items) == 719_081 + 91_047
    assert len(test.seen.items) == 1_027_370 - 29_858
    assert (test.targets >= 0).all()


def test_the_publishers_own_ml_1m(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::30::5::300\n1::10::3::100\n2::10::4::50\n1::20::4::200\n")
    movies = (
        "10::Café, The (1999)::Drama|War\n20::B: II (2000) (V)::Comedy\n30::C (1990)::Drama\n40::Unseen (1980)::War\n"
    )
    (folder / "movies.dat").write_text(movies, encoding="iso-8859-1")
    dataset = load(DataConfig(name="ml-1m"), tmp_path, seed=0)
    assert dataset.catalogue.ids == ("10", "20", "30")
    assert dataset.catalogue.titles == ("Café, The", "B: II", "C")
    assert dataset.catalogue.blocks[1].values.tolist() == [1999, 2000, 1990]  # type: ignore[union-attr]
    assert dataset.histories.row(0).tolist() == [0, 1, 2]
    assert dataset.fixed_test is None
    assert dataset.histories.ratings is not None


def test_the_publishers_own_ml_100k_tells_the_same_as_recboles(data_dir: Path, tmp_path: Path) -> None:
    recbole = load(DataConfig(name="ml-100k"), data_dir, seed=0)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    events = (data_dir / "ml-100k" / "ml-100k.inter").read_text().split("\n", 1)[1]
    (folder / "u.data").write_text(events)
    title, year, genres = recbole.catalogue.blocks
    assert isinstance(title, Texts)
    assert isinstance(year, Numbers)
    assert isinstance(genres, Categories)
    (folder / "u.genre").write_text("".join(f"{label}|{n}\n" for n, label in enumerate(genres.labels)) + "\n")
    rows = []
    for item, row in enumerate(genres.membership):
        released = "" if np.isnan(year.values[item]) else f" ({year.values[item]:.0f})"
        flags = "|".join(str(int(flag)) for flag in row)
        rows.append(f"{recbole.catalogue.ids[item]}|{title.texts[item]}{released}|01-Jan-1995||http://x|{flags}\n")
    (folder / "u.item").write_text("".join(rows), encoding="iso-8859-1", errors="replace")
    original = load(DataConfig(name="ml-100k"), tmp_path, seed=0)
    assert np.array_equal(original.histories.items, recbole.histories.items)
    assert np.array_equal(original.histories.times, recbole.histories.times)  # type: ignore[arg-type]
    assert original.catalogue.blocks[2].labels == genres.labels  # type: ignore[union-attr]
    assert np.array_equal(original.catalogue.blocks[2].membership, genres.membership)  # type: ignore[union-attr]
    known = ~np.isnan(year.values)
    assert known.sum() == 1680
    assert np.array_equal(original.catalogue.blocks[1].values[known], year.values[known])  # type: ignore[union-attr]
