"""One log, many spellings: each gives the same dataset and split, or one line that says why not."""

import datetime as dt
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.splits import split
from fedrec.errors import InputError

START = 1_580_465_472  # 2020-01-31 10:11:12 UTC
USERS, EVENTS = 6, 5


def micro(resolution: int) -> list[int]:
    """Times in microseconds, multiples of `resolution`; fractions of a second alone decide which event is newest."""
    rng = np.random.default_rng(7)
    shift = [86_400 * user for user in range(USERS)]
    within = [rng.permutation(EVENTS) * max(resolution, 100) for _ in range(USERS)]
    step = max(1, resolution // 10**6)
    return [
        (START // step * step + day) * 10**6 + int(part) for day, row in zip(shift, within, strict=True) for part in row
    ]


def moment(value: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=value)


def text(pattern: str, zone: str = "", hours: int = 0) -> Callable[[int], object]:
    return lambda value: (moment(value) + dt.timedelta(hours=hours)).strftime(pattern) + zone


SPLITS = ("leave-one-out", "leave-two-out", "ratio", "k-fold", "temporal")
ISO = "%Y-%m-%dT%H:%M:%S.%f"
# name -> (its resolution in microseconds, a cell from microseconds)
TIMES: dict[str, tuple[int, Callable[[int], object]]] = {
    "seconds": (10**6, lambda value: value // 10**6),
    "float seconds": (1, lambda value: value / 10**6),
    "milliseconds": (10**3, lambda value: value // 10**3),
    "float milliseconds": (1, lambda value: value / 10**3),
    "microseconds": (1, lambda value: value),
    "nanoseconds": (1, lambda value: value * 1000),
    "iso": (1, text(ISO)),
    "iso with Z": (1, text(ISO, "Z")),
    "iso with a space": (1, text("%Y-%m-%d %H:%M:%S.%f")),
    "UTC": (1, text("%Y-%m-%d %H:%M:%S.%f", " UTC")),
    "+02:00": (1, text(ISO, "+02:00", 2)),
    "-0530": (1, text(ISO, "-0530", -5.5)),  # type: ignore[arg-type]
    "slashes": (1, text("%Y/%m/%d %H:%M:%S.%f")),
    "basic": (10**6, text("%Y%m%dT%H%M%SZ")),
    "digits": (10**6, lambda value: int(moment(value).strftime("%Y%m%d%H%M%S"))),
    "day first": (1, text("%d/%m/%Y %H:%M:%S.%f")),
    "month first": (10**6, text("%m/%d/%Y %I:%M:%S %p")),
    "date": (86_400 * 10**6, text("%Y-%m-%d")),
    "date in digits": (86_400 * 10**6, lambda value: int(moment(value).strftime("%Y%m%d"))),
}
TYPED = {
    "Datetime(ms)": (10**3, pl.Datetime("ms")),
    "Datetime(us)": (1, pl.Datetime("us")),
    "Datetime(ns)": (1, pl.Datetime("ns")),
    "Datetime(us, Berlin)": (1, pl.Datetime("us", "Europe/Berlin")),
    "Date": (86_400 * 10**6, pl.Date()),
}
USER_IDS: dict[str, Callable[[int], object]] = {
    "int": lambda user: 3 * user + 1,
    "float": lambda user: float(3 * user + 1),
    "text": lambda user: str(3 * user + 1),
    "mixed": lambda user: f"{3 * user + 1}.0" if user % 2 else f" {3 * user + 1} ",
}
CONTAINERS = ("csv", "TSV", "csv.gz", "jsonl", "parquet", "parts", "inter", "zip", "txt", "utf-16")


def written(folder: Path, container: str, frame: pl.DataFrame) -> tuple[Path, dict[str, object]]:
    """The log in a container, and the settings that it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    if container == "parts":
        for part in range(3):
            frame[part::3].write_parquet(folder / f"part-{part}.parquet")
        return folder, {}
    file = folder / f"log.{container}"
    if container == "parquet":
        frame.write_parquet(file)
    elif container == "jsonl":
        rows = (json.dumps(row, default=str) for row in frame.iter_rows(named=True))
        file.write_text("\n".join(rows))
    elif container == "inter":
        table = frame.rename({"user_id": "user_id:token", "item_id": "item_id:token", "timestamp": "timestamp:float"})
        table.write_csv(file, separator="\t", quote_style="never")
    elif container == "csv.gz":
        import gzip

        file.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif container == "zip":
        import zipfile

        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("export/Log.CSV", "\ufeff" + frame.write_csv(separator=";"))
            archive.writestr("__MACOSX/export/._Log.CSV", "junk")
    elif container == "utf-16":
        file = folder / "log.csv"
        file.write_text(frame.write_csv(), encoding="utf-16")
        return file, {"columns": {"encoding": "utf-16"}}
    else:
        separator = {"csv": ",", "TSV": "\t", "txt": "|"}[container]
        file.write_text("\ufeff" + frame.write_csv(separator=separator), encoding="utf-8")
    return file, {}


def log(resolution: int, cell: Callable[[int], object], user: str = "int", dtype: object = None) -> pl.DataFrame:
    values = micro(resolution)
    owners = [owner for owner in range(USERS) for _ in range(EVENTS)]
    times = pl.Series("timestamp", [cell(value) for value in values])
    if dtype is not None:
        times = pl.Series("timestamp", values).cast(pl.Datetime("us"))
        zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        times = times.dt.replace_time_zone("UTC").cast(dtype) if zoned else times.cast(dtype)  # type: ignore[arg-type]
    users = pl.Series("user_id", [USER_IDS[user](owner) for owner in owners])
    items = pl.Series("item_id", [f"i{place % 7}" if user == "text" else place % 7 for place in range(len(owners))])
    return pl.DataFrame([users, items.cast(pl.String).str.replace("i", "").cast(pl.Int64), times])


def read(path: Path, **settings: object) -> Dataset:
    return load(DataConfig.model_validate({"path": path, **settings}), None, seed=0)


def same(one: Dataset, other: Dataset) -> bool:
    a, b = one.histories, other.histories
    pairs = [(a.items, b.items), (a.offsets, b.offsets), (a.times, b.times), (a.identities, b.identities)]
    if one.catalogue.ids != other.catalogue.ids or one.report != other.report:
        return False
    for kind in SPLITS:
        ours, theirs = (split(found, kind, "test", 0) for found in (one, other))
        if ours.rule != theirs.rule:
            return False
        pairs += [(ours.targets, theirs.targets), (ours.train.items, theirs.train.items)]
        pairs += [(ours.device.items, theirs.device.items), (ours.seen.items, theirs.seen.items)]
    return all(np.array_equal(x, y) for x, y in pairs)  # type: ignore[arg-type]


def canonical(folder: Path, resolution: int) -> Dataset:
    """Return the content of the log, from parquet with exact types."""
    return read(written(folder, "parquet", log(resolution, int, dtype=pl.Datetime("us")))[0])


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_spelling_of_times_in_every_container_gives_the_same_dataset(tmp_path: Path, container: str) -> None:
    for name, (resolution, cell) in TIMES.items():
        wanted = canonical(tmp_path / f"canonical {resolution}", resolution)
        path, settings = written(tmp_path / name, container, log(resolution, cell))
        assert same(read(path, **settings), wanted), name
        assert wanted.histories.times is not None
        assert wanted.histories.times.tolist() == [
            value / 10**6
            for user in range(USERS)
            for value in sorted(micro(resolution)[user * EVENTS : (user + 1) * EVENTS])
        ]


@pytest.mark.parametrize("name", TYPED)
@pytest.mark.parametrize("container", ["parquet", "parts"])
def test_typed_times_give_the_same_dataset(tmp_path: Path, name: str, container: str) -> None:
    resolution, dtype = TYPED[name]
    path, _ = written(tmp_path / "typed", container, log(resolution, int, dtype=dtype))
    assert same(read(path), canonical(tmp_path / "canonical", resolution))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_spelling_of_ids_gives_the_same_dataset(tmp_path: Path, container: str) -> None:
    wanted = canonical(tmp_path / "canonical", 1)
    for user in USER_IDS:
        frame = log(1, lambda value: value, user)
        if container not in ("inter", "jsonl"):  # an item id may be a float of another dtype than the user's
            frame = frame.with_columns(pl.col("item_id").cast(pl.Float64))
        path, settings = written(tmp_path / user, container, frame)
        assert same(read(path, **settings), wanted), user


def pair(folder: Path, rows: str, name: str = "log.csv") -> Path:
    file = folder / name
    file.write_text(f"user_id,item_id,timestamp\n{rows}")
    return file


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ("01/02/2020", "03/02/2020"),
            "line 2: 'timestamp' = '01/02/2020' may be two days: set data.columns.day_first",
        ),
        (("31/01/2020", "01/31/2020"), "line 3: 'timestamp' = '01/31/2020' has day and month in another order"),
        (("2020-01-31", "31/01/2020"), "line 2: 'timestamp' = '2020-01-31' is written in another order"),
        (("1580465472", "1580465472000"), r"line 2: .* is no time in milliseconds .* data.columns.unit='ms'"),
        (("1580465472000", "-1"), r"line 3: 'timestamp' = '-1' is no time in milliseconds"),
        (("2020-01-31T10:00:00Z", "2020-01-31T10:00:00"), "line 3: .* has no time zone and others have one"),
        (("2020-02-30", "2020-01-31"), "line 2: .* is no day or time that exists"),
        (("2020-01-31 25:00", "2020-01-31"), "line 2: .* is no day or time that exists"),
        (("31 Jan 2020", "2020-01-31"), "line 2: .* is no time like the others"),
        (("Jan 2020", "Feb 2020"), "line 2: 'timestamp' = 'Jan 2020' is no time; write"),
    ],
)
def test_times_that_may_mean_two_things_are_refused(tmp_path: Path, cells: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(pair(tmp_path, "".join(f"1,{number},{cell}\n" for number, cell in enumerate(cells))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "columns", "newest"),
    [
        (("01/02/2020", "02/01/2020"), {"day_first": True}, "0"),
        (("01/02/2020", "02/01/2020"), {"day_first": False}, "1"),
        (("1580465472000", "1000"), {"unit": "ms"}, "0"),
    ],
)
def test_the_settings_that_a_refusal_names_decide(
    tmp_path: Path, cells: tuple[str, str], columns: dict[str, object], newest: str
) -> None:
    rows = "".join(f"1,{number},{cell}\n" for number, cell in enumerate(cells))
    dataset = read(pair(tmp_path, rows), columns=columns)
    assert dataset.catalogue.ids[dataset.histories.row(0)[-1]] == newest


IDS = [
    ("1", "1.0", {"1"}),
    ("7", "007", {"7", "007"}),
    ("007", "7.0", {"007", "7.0"}),
    ("-3", "-3.0", {"-3"}),
    ("A", "a", {"A", "a"}),
    ("caf\u00e9", "cafe\u0301", {"caf\u00e9"}),
    (" x ", "x", {"x"}),
    ("98765432109876543210", "98765432109876543210.0", {"98765432109876543210"}),
    ("1e5", "100000", {"1e5", "100000"}),
]


@pytest.mark.parametrize(("one", "other", "users"), IDS)
@pytest.mark.parametrize("container", ["csv", "jsonl", "parquet"])
def test_ids_are_read_alike_in_every_container(
    tmp_path: Path, container: str, one: str, other: str, users: set[str]
) -> None:
    frame = pl.DataFrame({"user_id": [one, other], "item_id": [1, 2]})
    dataset = read(written(tmp_path / "a", container, frame)[0])
    assert len(dataset.histories) == len(users)
    swapped = pl.DataFrame({"user_id": [1, 2], "item_id": [one, other]})
    assert set(read(written(tmp_path / "b", container, swapped)[0]).catalogue.ids) == users


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pl.DataFrame({"user_id": ["1.2E+17", "5"], "item_id": [1, 2]}),
            "line 2: 'user_id' = '1.2E.17' has lost digits",
        ),
        (pl.DataFrame({"user_id": ["1.5", "5"], "item_id": [1, 2]}), "'user_id' holds fractions"),
        (pl.DataFrame({"user_id": ["N/A", "5"], "item_id": [1, 2]}), "line 2: 'user_id' is missing"),
        (pl.DataFrame({"user_id": ["5", "\\N"], "item_id": [1, 2]}), "line 3: 'user_id' is missing"),
    ],
)
def test_ids_that_lost_something_are_refused(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, "csv", frame)[0])


def test_floats_beyond_what_they_hold_exactly_are_refused_as_ids(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1.0, 2.0**53], "item_id": [1, 2]})
    with pytest.raises(InputError, match=r"row 2: 'user_id' is a Float64 beyond 2\^53"):
        read(written(tmp_path, "parquet", frame)[0])
    huge = pl.DataFrame({"user_id": pl.Series([1, 2**64 - 1], dtype=pl.UInt64), "item_id": [1, 2]})
    csv, parquet = (read(written(tmp_path / kind, kind, huge)[0]) for kind in ("csv", "parquet"))
    assert same_identities(csv, parquet)


def same_identities(one: Dataset, other: Dataset) -> bool:
    return np.array_equal(one.histories.identities, other.histories.identities)  # type: ignore[arg-type]


@pytest.mark.parametrize(("log_id", "row_id"), list(itertools.product(["7", "7.0", " 7"], repeat=2)))
def test_the_catalogues_ids_join_those_of_the_log(tmp_path: Path, log_id: str, row_id: str) -> None:
    items = tmp_path / "items.csv"
    items.write_text(f"item_id,title\n{row_id},Seven\n8,Eight\n")
    events = tmp_path / "log.csv"
    events.write_text(f"user_id,item_id\n1,{log_id}\n2,8\n")
    assert read(events, catalogue=items).catalogue.titles == ("Seven", "Eight")


def test_a_catalogue_with_another_spelling_says_so(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n007,Seven\n8,Eight\n")
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,7\n2,8\n")
    with pytest.raises(InputError, match=r"lacks item 7 of the log .* it has '007': write ids alike in both"):
        read(tmp_path / "log.csv", catalogue=tmp_path / "items.csv")


def test_the_fraction_of_a_second_decides_between_events(tmp_path: Path) -> None:
    late = "2020-01-31T10:11:12"
    for cells in ((f"{late}.7", f"{late}.3"), ("1580465472.7", "1580465472.3")):
        dataset = read(pair(tmp_path, f"1,a,{cells[0]}\n1,b,{cells[1]}\n"))
        assert [dataset.catalogue.ids[item] for item in dataset.histories.row(0)] == ["b", "a"]


def test_who_leaves_changes_no_other_users_identity(tmp_path: Path) -> None:
    """A text id makes a column text; the draws of the users with numbers stay the same."""
    with_text = read(pair(tmp_path, "1.0,a,1\n2.0,a,2\nann,a,3\n"))
    without = read(pair(tmp_path, "1.0,a,1\n2.0,a,2\n", "other.csv"))
    assert with_text.histories.identities is not None
    assert without.histories.identities is not None
    assert set(without.histories.identities.tolist()) <= set(with_text.histories.identities.tolist())
