"""Odd cells and files: each is read as what it plainly says, or refused in one line; nothing is guessed or lost."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.times import seconds
from fedrec.errors import InputError

HEAD = "user_id,item_id,timestamp\n"


def read(folder: Path, name: str, content: str | bytes | pl.DataFrame, **options: object) -> Dataset:
    file = folder / name
    if isinstance(content, pl.DataFrame):
        content.write_parquet(file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(DataConfig.model_validate({"path": file, **options}), None, seed=0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cr.csv", (HEAD + "1,2,3\n1,3,4\n").replace("\n", "\r")),
        ("crlf.csv", (HEAD + "1,2,3\n1,3,4\n").replace("\n", "\r\n")),
        ("commas.csv", (HEAD + "1,2,3\n1,3,4\n").replace("\n", ",\n")),
        ("quoted.csv", HEAD + '"1","2","3"\n"1","3"," 4 "\n'),
        ("exponent.csv", HEAD + "1,2,3.0e0\n1,3,+4\n"),
        ("marks.csv", HEAD + "1,2,3\n1,3,4\n1,5,N/A\n1,6,\\N\n1,7,null\n1,8,\n1,9,NaN\n1,10,unknown\n1,11,-\n"),
        ("pretty.json", json.dumps([{"user_id": 1, "item_id": i, "timestamp": i + 1} for i in (2, 3)], indent=2)),
        ("mixed.jsonl", '{"user_id":1,"item_id":2,"timestamp":3}\n{"user_id":"1","item_id":"3.0","timestamp":"4"}\n'),
    ],
)
def test_odd_files_that_say_plainly_what_they_mean(tmp_path: Path, name: str, text: str) -> None:
    dataset = read(tmp_path, name, text)
    assert dataset.catalogue.ids == ("2", "3")
    assert dataset.histories.identities is not None
    assert dataset.histories.identities.tolist() == [1]
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [3, 4]


def test_positions_name_columns_with_a_header_too(tmp_path: Path) -> None:
    dataset = read(tmp_path, "log.csv", "a,b\n1,2\n", columns={"user": 2, "item": "1"})
    assert dataset.catalogue.ids == ("1",)
    with pytest.raises(InputError, match="has no column '3' to be the item_id"):
        read(tmp_path, "log.csv", "a,b\n1,2\n", columns={"user": 2, "item": 3})


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("cr.csv", (HEAD + "1,2,3\n1,,4\n").replace("\n", "\r"), {}, "row 2: 'item_id' is missing"),
        ("year.csv", HEAD + "1,2,10/11/20\n", {}, "line 2: 'timestamp' = '10/11/20' is no time"),
        ("ratings.dat", "1::2::5::978300760\n" * 2, {}, "set data.columns.header=false and data.columns.user to a"),
        ("u.data", "1\t2\t5\t8\n", {"header": False}, "set data.columns.user to its position, from 1 to 4"),
        ("nested.jsonl", '{"user_id":{"id":1},"item_id":2}\n', {}, "ids must be whole numbers or text"),
        ("mongo.jsonl", '{"user_id":1,"item_id":2,"timestamp":{"d":5}}\n', {}, "line 1: 'timestamp' .*make the column"),
        ("truth.jsonl", '{"user_id":true,"item_id":2}\n', {}, "holds Boolean; ids must be"),
        ("blank.jsonl", "\n\n", {}, "has no rows"),
        ("huge.csv", HEAD + "1,2,1e18\n1,3,5e300\n", {}, "line 3: .* is no finite number below 9e"),
    ],
)  # fmt: skip
def test_odd_files_that_say_nothing_plain(
    tmp_path: Path, name: str, text: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, name, text, columns=options)
    assert "\n" not in str(caught.value)


def frame(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]} | columns)


DATES = ["2020-01-31", "2020-02-01"]


@pytest.mark.parametrize(
    "times",
    [
        pl.Series(DATES, dtype=pl.Categorical),
        pl.Series(DATES, dtype=pl.Enum(DATES)),
        pl.Series(["1580428800", "1580515200.0"]),
        pl.Series(["1580428800", "1580515200"]).cast(pl.Decimal(20, 3)),
        pl.Series([1580428800, 1580515200], dtype=pl.UInt64),
        pl.Series([1580428800, 1580515200], dtype=pl.UInt32),
        pl.Series(DATES).str.to_date(),
    ],
    ids=lambda times: str(times.dtype),
)
def test_typed_columns_of_parquet(tmp_path: Path, times: pl.Series) -> None:
    dataset = read(tmp_path, "log.parquet", frame(timestamp=times))
    assert dataset.histories.times is not None
    assert dataset.histories.times.tolist() == [1580428800, 1580515200]


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Decimal(5, 1), pl.String])
def test_a_threshold_means_the_same_for_ratings_of_any_type(tmp_path: Path, dtype: pl.DataType) -> None:
    ratings = pl.Series("rating", ["4.1", "4.2"]).cast(pl.Float64).cast(dtype)
    for least, left in ((4.1, 2), (4.2, 1)):
        dataset = read(tmp_path, "log.parquet", frame(rating=ratings), min_rating=least)
        assert len(dataset.histories.items) == left
    small = read(tmp_path, "log.parquet", frame(timestamp=ratings))
    assert small.histories.times is not None
    assert small.histories.times.tolist() == [4.1, 4.2]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"timestamp": pl.Series([1.58e9, 1.59e9], dtype=pl.Float32)}, "row 1: .* is a Float32, which has lost"),
        ({"user_id": pl.Series([1, 2**24], dtype=pl.Float32)}, r"row 2: 'user_id' is a Float32 beyond 2\^24"),
        ({"timestamp": pl.Series([1, 2]).cast(pl.Time)}, "row 1: 'timestamp' .* is Time; make the column a time"),
        ({"timestamp": pl.Series([1, 2]).cast(pl.Duration("us"))}, "make the column a time or a number"),
        ({"timestamp": pl.Series([True, False])}, "make the column a time or a number"),
        ({"timestamp": pl.Series([2**63 + 5, 1], dtype=pl.UInt64)}, "row 1: .* is no finite number below"),
        ({"user_id": pl.Series([b"5", b"\xff"])}, "'user_id' holds Binary"),
    ],
)  # fmt: skip
def test_typed_columns_that_lost_something(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, "log.parquet", frame(**columns))


def never(wrong: pl.Series, why: str) -> None:
    raise AssertionError(f"row {wrong.arg_max()}: {why}")


SPELLED = {
    "s": lambda micro: str(micro / 10**6),
    "ms": lambda micro: f"{micro // 1000}.{micro % 1000:03d}",
    "us": str,
    "ns": lambda micro: str(micro * 1000),
    "iso": lambda micro: moment(micro).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    "slashes": lambda micro: moment(micro).strftime("%Y/%m/%d %H:%M:%S.%f"),
    "ahead": lambda micro: (moment(micro) + timedelta(minutes=345)).strftime("%Y-%m-%d %H:%M:%S.%f +05:45"),
}


def moment(micro: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(10**14, 4 * 10**15), min_size=1, max_size=5), st.sampled_from(sorted(SPELLED)))
def test_any_moment_is_read_to_the_microsecond_in_any_spelling(micros: list[int], name: str) -> None:
    column = pl.Series("timestamp", [SPELLED[name](micro) for micro in micros])
    found, _ = seconds(column, never)  # type: ignore[arg-type]
    assert found.to_list() == [micro / 10**6 for micro in micros]
