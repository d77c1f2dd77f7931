"""Files become datasets, or one line that says what is wrong, where, and how to mend it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.catalogue import Categories, Numbers, Texts
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.errors import InputError

LOG = "user_id,item_id,rating,timestamp\nann,x,5,30\nann,y,2,10\nbob,x,4,20\nbob,z,3,5\nann,y,4,40\n"


def written(folder: Path, text: str, name: str = "log.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def load_file(path: Path, **settings: object) -> Dataset:
    return load(DataConfig.model_validate({"path": path, **settings}), None, seed=0)


def named(dataset: Dataset) -> list[list[str]]:
    histories = dataset.histories
    return [[dataset.catalogue.ids[item] for item in histories.row(user)] for user in range(len(histories))]


def test_a_csv_log_is_read_in_order_of_time_and_counted(tmp_path: Path) -> None:
    dataset = load_file(written(tmp_path, LOG))
    assert named(dataset) == [["y", "x"], ["z", "x"]]
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [10, 30, 5, 20]
    assert dataset.histories.ratings is not None
    assert dataset.histories.ratings.tolist() == [2, 5, 3, 4]
    assert dataset.histories.ordered
    assert dataset.report["duplicates"] == 1
    assert dataset.report["rows read"] == 5
    assert dataset.report["catalogue"] == "the items of the log"


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "inter"])
def test_every_format_tells_the_same(tmp_path: Path, ending: str) -> None:
    text, file = LOG, tmp_path / f"log.{ending}"
    if ending == "parquet":
        pl.read_csv(text.encode()).write_parquet(file)
    elif ending == "inter":
        header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        file.write_text(header + text.split("\n", 1)[1].replace(",", "\t"))
    else:
        file.write_text(text.replace(",", "," if ending == "csv" else "\t"))
    dataset, csv = load_file(file), load_file(written(tmp_path, LOG, "same.csv"))
    assert named(dataset) == named(csv)
    assert np.array_equal(dataset.histories.times, csv.histories.times)  # type: ignore[arg-type]
    assert dataset.report == csv.report


def test_times_may_be_dates(tmp_path: Path) -> None:
    text = "user_id,item_id,timestamp\n1,b,2020-01-02 00:00:00\n1,a,2020-01-01 00:00:00\n"
    dataset = load_file(written(tmp_path, text))
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [1577836800, 1577923200]
    frame = pl.read_csv(text.encode(), try_parse_dates=True)
    frame.write_parquet(tmp_path / "log.parquet")
    assert np.array_equal(load_file(tmp_path / "log.parquet").histories.times, dataset.histories.times)  # type: ignore[arg-type]


def test_a_log_without_times_has_no_order_and_does_not_leak_that_of_the_file(tmp_path: Path) -> None:
    pairs = [(user, item) for user in range(30) for item in range(20)]
    lines = [f"{user},{item}\n" for user, item in pairs]
    forwards = load_file(written(tmp_path, "user_id,item_id\n" + "".join(lines)))
    backwards = load_file(written(tmp_path, "user_id,item_id\n" + "".join(reversed(lines)), "back.csv"))
    assert not forwards.histories.ordered
    assert forwards.report["order"] == "unknown"
    assert named(forwards) == named(backwards)
    last = [int(row[-1]) for row in named(forwards)]
    assert len(set(last)) > 8


def test_cleaning_counts_what_it_drops(tmp_path: Path) -> None:
    dense = [f"{user},{item},5,{user + item}" for user in (1, 2, 3) for item in (1, 2, 3)]
    rest = ["1,9,5,1", "2,8,1,1", "3,7,,1", "3,6,5,", "4,1,5,1", "1,1,5,99"]
    dataset = load_file(
        written(tmp_path, "user_id,item_id,rating,timestamp\n" + "\n".join([*dense, *rest])), min_rating=3, k_core=3
    )
    assert {name: dataset.report[name] for name in list(dataset.report)[:6]} == {
        "rows read": 15,
        "missing values": 2,
        "duplicates": 1,
        "rated below 3": 1,
        "outside the 3-core": 2,
        "k-core rounds": 1,
    }
    assert [sorted(row) for row in named(dataset)] == [["1", "2", "3"]] * 3


def test_a_core_is_peeled_until_it_holds(tmp_path: Path) -> None:
    chain = "".join(f"{n},{n}\n{n},{n + 1}\n" for n in range(6))  # each end that falls takes the next with it
    with pytest.raises(InputError, match="no event is left"):
        load_file(written(tmp_path, "user_id,item_id\n" + chain), k_core=2)
    square = "a,1\na,2\nb,1\nb,2\n".replace("1", "101").replace("2", "102")
    dataset = load_file(written(tmp_path, "user_id,item_id\n" + chain + square), k_core=2)
    assert named(dataset) != []
    assert dataset.report["outside the 2-core"] == 12
    assert dataset.report["k-core rounds"] == 6


def test_a_catalogue_file_gives_items_and_features(tmp_path: Path) -> None:
    items = written(tmp_path, "item_id,title,price,tags\nx,Ex,1.5,a|b\ny,Why,,\nz,Zed,3,b\nw,New,4,c\n", "items.csv")
    dataset = load_file(written(tmp_path, LOG), catalogue=items)
    title, price, tags = dataset.catalogue.blocks
    assert dataset.catalogue.ids == ("w", "x", "y", "z")
    assert dataset.catalogue.titles == ("New", "Ex", "Why", "Zed")
    assert isinstance(title, Texts)
    assert isinstance(price, Numbers)
    assert isinstance(tags, Categories)
    assert price.values.tolist()[:2] == [4, 1.5]
    assert np.isnan(price.values[2])
    assert tags.labels == ("a", "b", "c")
    assert tags.membership.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert named(dataset) == [["y", "x"], ["z", "x"]]
    assert dataset.report["catalogue"] == "given"


def test_numbers_and_text_may_name_the_same_items(tmp_path: Path) -> None:
    items = written(tmp_path, "item_id,title\n7,Seven\nx8,Eight\n", "items.csv")
    dataset = load_file(written(tmp_path, "user_id,item_id\n1,7\n2,7\n"), catalogue=items)
    assert dataset.catalogue.titles == ("Seven", "Eight")
    assert named(dataset) == [["7"], ["7"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("user_id,item_id\n", "has no rows"),
        ("user,item_id\n1,2\n", r"needs a column 'user_id'. Did you mean 'user'\?"),
        ("user_id;items\n1;2\n", "needs a column 'item_id'"),
        ("user_id,item_id\n1,2\n1,\n", "line 3: 'item_id' is missing or NaN"),
        ("user_id,item_id\n1,2\nNaN,4\n", "line 3: 'user_id' is missing or NaN"),
        ("user_id,item_id\n1,2\n\n3,4\n", "line 3: 'user_id' is missing"),
        ('user_id,title,item_id\n1,"a\nb",2\n1,"c ""d\n""\ne",\n', "line 4: 'item_id' is missing"),
        ('user_id,title,item_id\n1,5" disk,2\n1,x,\n', r"line 2 \(a quote without its end\)"),
        ("user_id,item_id\n1,2\n1,2,3\n", "line 3: not a table"),
        ("user_id\n1\n", "needs a column 'item_id'.$"),
        ('user_id,item_id\n1,2\n1,"3\n1,4\n', "line 3"),
        pytest.param('user_id,item_id\n1,2\n1,"3\n' + 20000 * "1,40000\n", "line 3", id="a long file after a quote"),
        ("user_id,item_id,timestamp\n1,2,\n1,3,\n", "fill the column 'timestamp'"),
        ("user_id,item_id,rating\n1,2,3\n1,4,good\n", "line 3: 'rating' = 'good' is no finite number"),
        ("user_id,item_id,rating\n1,2,3\n1,4,inf\n", "line 3: 'rating' = 'inf' is no finite number"),
        ("user_id,item_id,rating\n1,2,3\n1,4,-1e300\n", "line 3: 'rating' = '-1e300' is no finite number below 9e"),
        ("user_id,item_id,timestamp\n1,2,1e30\n", "line 2: 'timestamp' = '1e30' is no finite number below 9e"),
        ("user_id,item_id,timestamp\n1,2,yesterday\n", "line 2: 'timestamp' = 'yesterday'"),
        ("user_id,item_id,timestamp\n1,2,2020-01-01\n1,3,soon\n", "line 3: 'timestamp' = 'soon' is no time"),
    ],
)
def test_a_bad_csv_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_file(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "log.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"user_id": [1.0, float("nan")], "item_id": [1, 2]}), "row 2: 'user_id' is missing or NaN"),
        (pl.DataFrame({"user_id": [1, None], "item_id": [1, 2]}), "row 2: 'user_id' is missing or NaN"),
        (pl.DataFrame({"user_id": [1.0, 2.5], "item_id": [1, 2]}), "fractions"),
        (pl.DataFrame({"user_id": [1.0, float("inf")], "item_id": [1, 2]}), "fractions"),
        (pl.DataFrame({"user_id": [[1], [2]], "item_id": [1, 2]}), "whole numbers or text"),
        (pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "rating": [[1], [2]]}), "make it a number"),
        (pl.DataFrame({"user_id": [1], "item": [1]}), "needs a column 'item_id'"),
        (pl.DataFrame({"user_id": [], "item_id": []}), "has no rows"),
    ],
)
def test_a_bad_parquet_is_refused_in_one_line(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError, match=message) as caught:
        load_file(tmp_path / "log.parquet")
    assert "\n" not in str(caught.value)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "log.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01user_id")
    for path, message in [
        (binary, "not a text file"),
        (written(tmp_path, "user_id,item_id\n1,2\n", "log.parquet"), "not a parquet file"),
        (written(tmp_path, LOG, "log.xlsx"), "format not recognised"),
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "format not recognised"),
        (written(tmp_path, "user_id\titem_id\n1\t2\n", "log.inter"), "needs its type, like 'user_id:token'"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load_file(path)
        assert "\n" not in str(caught.value)


def test_a_wrong_catalogue_is_refused(tmp_path: Path) -> None:
    log = written(tmp_path, LOG)
    for text, message in [
        ("item_id,title\nx,X\ny,Y\n", r"lacks item z of the log \(1 items in all\)"),
        ("item_id\nx\ny\nz\nx\n", "item x occurs twice"),
        ("item,title\nx,X\n", "needs a column 'item_id'"),
    ]:
        with pytest.raises(InputError, match=message):
            load_file(log, catalogue=written(tmp_path, text, "items.csv"))


def test_settings_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDREC_DATA", raising=False)
    log = written(tmp_path, "user_id,item_id\n1,2\n")
    for settings, message in [
        ({"path": log, "min_rating": 3}, "needs ratings"),
        ({"path": log, "users": 5}, "generated data only"),
        ({"path": log, "name": "ml-1m"}, "two datasets"),
        ({"name": "file"}, "needs data.path"),
        ({"name": "ml-1n"}, "unknown dataset 'ml-1n'. Did you mean 'ml-1m'"),
        ({"name": "ml-1m"}, "--data-dir or FEDREC_DATA"),
        ({"name": "synthetic", "items": 20, "interactions_per_user": 30}, "lower data.interactions_per_user"),
    ]:
        with pytest.raises(InputError, match=message):
            load(DataConfig.model_validate(settings), None, seed=0)
    with pytest.raises(InputError, match="no dataset 'gowalla'"):
        load(DataConfig(name="gowalla"), tmp_path, seed=0)
    (tmp_path / "gowalla").mkdir()
    with pytest.raises(InputError, match=r"'interactions\.parquet' is missing"):
        load(DataConfig(name="gowalla"), tmp_path, seed=0)
    assert all(field.description for field in DataConfig.model_fields.values())
