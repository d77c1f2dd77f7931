"""Reading one's own log: which column is what, how a text is written, where it lies, and hints that help."""

import gzip
import io
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from fedrec.cli import app
from fedrec.data.columns import CatalogueColumns, LogColumns
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.errors import InputError
from fedrec.settings import parse

ROWS = [("ann", "x", 5, 30), ("ann", "y", 2, 10), ("bob", "x", 4, 20), ("bob", "z", 3, 5)]
CSV = "user_id,item_id,rating,timestamp\n" + "".join(f"{','.join(map(str, row))}\n" for row in ROWS)


def read(path: Path, **settings: object) -> Dataset:
    return load(parse(DataConfig, {"path": path, **settings}, "test"), None, seed=0)


def named(dataset: Dataset) -> list[list[str]]:
    histories = dataset.histories
    return [[dataset.catalogue.ids[item] for item in histories.row(user)] for user in range(len(histories))]


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))
    return file


ROWS_ALONE = CSV.split("\n", 1)[1]
OTHER = CSV.replace("user_id,item_id,rating,timestamp", "uid,sku,stars,when")
NAMES = {"user": "uid", "item": "sku", "rating": "stars", "time": "when"}


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("log.csv", CSV, {}),
        ("LOG.CSV", CSV, {}),
        ("log.csv", OTHER, NAMES),
        ("log.csv", CSV.replace(",", ";"), {}),
        ("log.csv", CSV.replace("item_id,rating", "item_id, rating"), {}),
        ("log.tsv", CSV.replace(",", "\t"), {}),
        ("log.tsv", '"' + CSV.replace(",", '"\t"').replace("\n", '"\n"')[:-1], {}),
        ("log.txt", CSV.replace(",", "|"), {}),
        ("log.txt", CSV.replace(",", "::"), {}),
        ("log.txt", CSV.replace(",", " "), {}),
        ("log.txt", CSV.replace(",", "#"), {"separator": "#"}),
        ("log.txt", CSV.replace(",", "\u00a6"), {"separator": "\u00a6"}),
        ("log.csv", CSV.replace(",", "\t"), {"separator": "tab"}),
        ("log.csv", ROWS_ALONE, {"header": False, "user": 1, "item": 2, "rating": 3, "time": 4}),
        ("log.txt", ROWS_ALONE.replace(",", "::"), {"header": False, "user": "1", "item": 2, "rating": 3, "time": 4}),
        ("log.csv", CSV.replace("user_id", "userId").replace("item_id", "movieId"), {}),
        ("log.csv", "," + CSV.replace("\nann", "\n1,ann").replace("\nbob", "\n1,bob"), {}),
        ("log.csv", "movieId," + CSV.replace("\nann", "\n9,ann").replace("\nbob", "\n9,bob"), {}),
    ],
)  # fmt: skip
def test_own_columns_separators_and_headers(tmp_path: Path, name: str, text: str, columns: dict[str, object]) -> None:
    dataset = read(written(tmp_path, name, text), columns=columns)
    assert named(dataset) == [["y", "x"], ["z", "x"]]
    assert dataset.histories.ratings is not None
    assert dataset.histories.ratings.tolist() == [2, 5, 3, 4]
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [10, 30, 5, 20]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    columns = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    events = written(tmp_path, "log.csv", CSV.replace("x", "\u00e9"), encoding)
    items = written(tmp_path, "items.csv", "item_id,title\n\u00e9,\u00c9\ny,Y\nz,Z\n", encoding)
    dataset = read(events, catalogue=items, columns=columns, catalogue_columns=columns)
    assert named(dataset) == [["y", "\u00e9"], ["z", "\u00e9"]]
    assert dataset.catalogue.titles == ("Y", "Z", "\u00c9")


def packed(folder: Path, kind: str) -> Path:
    file = folder / f"log.{kind}"
    frame = pl.read_csv(CSV.encode())
    parquet = io.BytesIO()
    frame.write_parquet(parquet)
    if kind.lower().endswith(".gz"):
        plain = {"csv.gz": CSV.encode(), "jsonl.GZ": frame.write_ndjson().encode(), "parquet.gz": parquet.getvalue()}
        file.write_bytes(gzip.compress(plain[kind]))
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a folder/", "")
            archive.writestr("a folder/README.md", "read me")
            archive.writestr("a folder/log.csv.gz", gzip.compress(CSV.encode()))
    elif kind == "json":
        frame.write_json(file)
    elif kind in ("jsonl", "ndjson"):
        file.write_bytes(b"\xef\xbb\xbf" + frame.write_ndjson().encode() + b"\n\n")
    elif kind == "PARQUET":
        file.write_bytes(parquet.getvalue())
    else:
        file = folder / "parts"
        for part in range(2):
            half = frame[part::2]
            name = (
                f"{'year=2020/' if kind == 'nested' else ''}part-{part}.{'csv' if kind == 'csv parts' else 'parquet'}"
            )
            (file / name).parent.mkdir(parents=True, exist_ok=True)
            half.write_csv(file / name) if kind == "csv parts" else half.write_parquet(file / name)
        (file / "_SUCCESS").write_text("")
        (file / ".part-0.crc").write_text("x")
    return file


KINDS = [
    "csv.gz",
    "jsonl.GZ",
    "parquet.gz",
    "zip",
    "json",
    "jsonl",
    "ndjson",
    "PARQUET",
    "parts",
    "csv parts",
    "nested",
]


@pytest.mark.parametrize("kind", KINDS)
def test_packed_files_and_folders_of_parts(tmp_path: Path, kind: str) -> None:
    dataset = read(packed(tmp_path, kind))
    assert named(dataset) == [["y", "x"], ["z", "x"]]
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [10, 30, 5, 20]


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "parts", "csv parts"])
def test_a_fault_is_named_with_its_place_in_any_container(tmp_path: Path, kind: str) -> None:
    broken = [*ROWS[:3], ("bob", "z", "good", 5)]
    frame = pl.DataFrame(broken, schema=["user_id", "item_id", "rating", "timestamp"], orient="row", strict=False)
    frame = frame.with_columns(pl.Series("rating", ["5", "2", "4", "good"]))
    if kind == "csv.gz":
        file, where = tmp_path / "log.csv.gz", "line 5"
        file.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif kind == "jsonl":
        file, where = tmp_path / "log.jsonl", "line 4"
        file.write_text(frame.write_ndjson())
    else:
        file, ending = tmp_path / "parts", "csv" if kind == "csv parts" else "parquet"
        file.mkdir()
        for part in range(2):
            half, name = frame[2 * part : 2 * part + 2], file / f"part-{part}.{ending}"
            half.write_csv(name) if ending == "csv" else half.write_parquet(name)
        where = "part-1.csv, line 3" if ending == "csv" else "part-1.parquet, row 2"
    with pytest.raises(InputError, match=f"{where}: 'rating' = 'good' is no finite number"):
        read(file)


MOVIES = (
    'movieId,title,genres\n1,"Sabrina, or \u00c9lise (1995)",Comedy|Romance\n'
    "2,Pulp (1994),(no genres listed)\n3,New (2000),War\n"
)
RATINGS = "userId,movieId,rating,timestamp\n1,2,5.0,30\n1,1,3.5,10\n2,2,0.5,20\n"


def test_movielens_own_files_as_a_path_are_the_dataset_of_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "ml-latest-small"
    ratings, movies = written(folder, "ratings.csv", RATINGS), written(folder, "movies.csv", MOVIES)
    wanted = load(DataConfig(name="ml-latest-small"), tmp_path, seed=0)
    beside = read(ratings)
    assert beside.catalogue.digest == wanted.catalogue.digest
    assert named(beside) == named(wanted) == [["1", "2"], ["2"]]
    given = read(ratings, catalogue=movies)
    assert given.catalogue.titles == ("Sabrina, or \u00c9lise", "Pulp", "New")
    assert [block.name for block in given.catalogue.blocks] == [block.name for block in wanted.catalogue.blocks]
    alone = tmp_path / "alone"
    alone.mkdir()
    assert read(Path(shutil.copy(ratings, alone))).catalogue.titles is None


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("userId,product\n1,2\n", {}, "needs .* 'item_id'. Did you mean 'product'. Then set data.columns.item=product"),
        ("user_id,title,asin\n1,2,3\n", {}, "needs a column 'item_id'. Did you mean 'asin'"),
        ("reviewerID,title,item_id\n1,2,3\n", {}, "needs a column 'user_id'. Did you mean 'reviewerID'"),
        ("title,movieId,customer\n1,2,3\n", {}, "needs a column 'user_id'. Did you mean 'customer'"),
        ("1\t2\t5\t881250949\n1\t3\t5\t881250950\n", {}, "data.columns.header=false and data.columns.user"),
        ("user_id,item_id,ts\n1,2,3\n", {}, "Is it 'ts'. Then set data.columns.time=ts, else data.columns.time=none"),
        ("user_id,item_id,date\n1,2,3\n", {"time": "day"}, "has no column 'day' to be the timestamp"),
        ("user_id,item_id,item_id\n1,2,3\n", {}, "line 1: two columns are called 'item_id'"),
        ("a b;c\n", {"header": False, "separator": "#"}, "needs a column 'user_id'"),
        ("user_id,item_id,rating\n1,2,\"4,5\"\n", {}, "line 2: 'rating' = '4,5' .*write a decimal point"),
        ("user_id,item_id\n1,2\n", {"encoding": "utf-9"}, "columns.encoding' = 'utf-9': no encoding of this name"),
        ("user_id,item_id\n1,2\n", {"encoding": "hex"}, "columns.encoding' = 'hex': no encoding of this name"),
        ("user_id,item_id\n1,2\n", {"encoding": "a\0b"}, "columns.encoding' = "),
        ("user_id,item_id\n1,2\n", {"encoding": "undefined"}, "columns.encoding' = "),
        ("user_id,item_id\n1,2\n", {"separator": "\n"}, "a separator must not contain a line end"),
        ("user_id,item_id\n1,2\n", {"users": "u"}, "unknown key 'columns.users'. Did you mean 'columns.user'"),
        ("user_id,item_id\n1,2\n", {"encoding": "utf-16"}, "not a text file in utf-16"),
    ],
)  # fmt: skip
def test_columns_that_are_missing_are_hinted_at(
    tmp_path: Path, text: str, settings: dict[str, object], message: str
) -> None:
    file = written(tmp_path, "log.tsv" if "\t" in text else "log.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        read(file, columns=settings)
    assert "\n" not in str(caught.value)


def test_a_time_that_is_not_wanted_is_left_out(tmp_path: Path) -> None:
    file = written(tmp_path, "log.csv", "user_id,item_id,date\n1,2,soon\n")
    assert read(file, columns={"time": "none"}).histories.times is None


def test_the_catalogues_columns_may_have_other_names(tmp_path: Path) -> None:
    events = written(tmp_path, "log.csv", CSV)
    items = written(tmp_path, "items.txt", "sku;label;title\nx;Ex;1\ny;Why;2\nz;Zed;3\n")
    with pytest.raises(InputError, match=r"Did you mean 'sku'\? Then set data.catalogue_columns.item=sku"):
        read(events, catalogue=items)
    found = read(events, catalogue=items, catalogue_columns={"item": "sku", "title": "label"}).catalogue
    assert found.titles == ("Ex", "Why", "Zed")
    assert [block.name for block in found.blocks] == ["title"]


def test_containers_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    two = tmp_path / "two.zip"
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    whole = packed(tmp_path, "zip").read_bytes()
    mixed = tmp_path / "mixed"
    written(mixed, "a.csv", CSV)
    pl.read_csv(CSV.encode()).write_parquet(mixed / "b.parquet")
    differ = tmp_path / "differ"
    written(differ, "a.csv", CSV)
    written(differ, "b.csv", "user_id,item_id\n1,2\n")
    cases = [
        (two, "holds 2 tables .a.csv, b.csv.; unpack it"),
        (written(tmp_path, "no.zip", "no zip"), "not a whole zip archive"),
        (written(tmp_path, "cut.csv.gz", "no gzip"), "not a whole gzip file"),
        (written(tmp_path, "a.jsonl", '{"user_id": 1}\n[1]\n'), "a.jsonl, line 2: not JSON lines"),
        (written(tmp_path, "b.jsonl", '{"user_id": 1}\n\n{"user_id"'), "b.jsonl, line 3: not JSON lines"),
        (written(tmp_path, "wide.csv", CSV, "utf-16"), "set data.columns.encoding=utf-16"),
        (
            written(tmp_path, "words.txt", "user_id\n1\n"),
            "separator of columns not recognised; set data.columns.sep",
        ),
        (mixed, r"holds tables of several formats \(.csv, .parquet\)"),
        (differ, r"b.csv: has the columns \['user_id', 'item_id'\], and the first part"),
        (tmp_path / "none.csv", "none.csv: no such file"),
    ]
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[:-30])
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(whole.replace(gzip.compress(CSV.encode())[10:40], b"\0" * 30))
    for path, message in [*cases, (cut, "not a whole"), (damaged, "not a whole")]:
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_columns_are_for_a_log_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.columns is for a log of your own"):
        load(parse(DataConfig, {"columns": {"user": "uid"}}, "test"), None, seed=0)
    assert all(field.description for kind in (LogColumns, CatalogueColumns) for field in kind.model_fields.values())


def test_describe_shows_how_ids_and_times_were_read(tmp_path: Path) -> None:
    text = "uid,item_id,timestamp\n1.0,007,1580465472123\n2.0,7,1580465473123\n"
    found = CliRunner().invoke(
        app, ["data", "describe", str(written(tmp_path, "log.csv", text)), "--set", "data.columns.user=uid"]
    )
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.replace("\u2502", " ").split())
    assert "whole numbers, written as floats" in words
    assert "text, since some have leading zeros" in words
    assert "milliseconds since 1970" in words
    assert "2020-01-31 10:11:12.123000 UTC to 2020-01-31 10:11:13.123000 UTC" in words
    written(tmp_path, "order.csv", "user_id,item_id,timestamp\n1,2,1\n1,3,2\n")
    small = CliRunner().invoke(app, ["data", "describe", str(tmp_path / "order.csv")])
    assert "hardly dates" in " ".join(small.output.replace("\u2502", " ").split())
