"""The order of the lines carries no meaning: shuffled files give the same dataset and the same split, bit for bit."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.histories import Histories
from fedrec.data.splits import split
from fedrec.errors import InputError

Row = tuple[int, int, int, int]
"""User, item, rating, time."""
Turn = Callable[[list], list]

ITEMS = range(1, 21)
SPLITS = ("leave-one-out", "leave-two-out", "temporal", "user-holdout", "ratio", "k-fold")
CLEANING: list[dict[str, object]] = [
    {},
    {"min_rating": 3},
    {"min_rating": 3, "mask_dropped": True},
    {"k_core": 3},
    {"ordered": False},
    {"balance": {"most_events": 3}},
]


def log(times: int = 4) -> list[Row]:
    """12 users with 14 events each at `times` moments, some of them repeated with another rating at the same one."""
    draw = np.random.default_rng(5)
    rows = []
    for user in range(1, 13):
        for item in draw.permutation(ITEMS)[:12]:
            rows.append((user, int(item), int(draw.integers(1, 6)), 1_500_000_000 + int(draw.integers(times)) * 86400))
        rows += [(user, item, 6 - rating, moment) for _, item, rating, moment in rows[-2:]]
    return rows


def lines(rows: list[Row], form: str, head: str = "") -> str:
    return head + "".join(form.format(*row) + "\n" for row in rows)


def ml_1m_parquet(root: Path, rows: list[Row], turn: Turn) -> None:
    pairs = sorted({(user, item) for user, item, _, _ in rows})
    placed = [(user, item, item % 7) for user, item in pairs if item % 3]
    pl.DataFrame(turn(pairs), ["user_id", "item_id"], orient="row").write_parquet(root / "interactions.parquet")
    sequences = pl.DataFrame(turn(placed), ["user_id", "item_id", "position"], orient="row")
    sequences.write_parquet(root / "sequences.parquet")
    (root / "movies.dat").write_text("".join(turn([f"{i}::Film {i} (19{i + 60})::War\n" for i in ITEMS])))


def gowalla_parquet(root: Path, rows: list[Row], turn: Turn) -> None:
    table = [(user, item, ("train", "valid", "test")[rating % 3]) for user, item, rating, _ in turn(rows)]
    pl.DataFrame(table, ["user_id", "item_id", "split"], orient="row").write_parquet(root / "interactions.parquet")


def amazon_reviews(root: Path, rows: list[Row], turn: Turn) -> None:
    form = '{{"reviewerID": "U{0}", "asin": "A{1}", "overall": {2}, "unixReviewTime": {3}}}'
    (root / "Books.jsonl").write_text(lines(turn(rows), form))
    meta = [f'{{"asin": "A{i}", "title": "T{n}", "category": ["C{n}"]}}\n' for i in ITEMS for n in range(i % 3 + 1)]
    (root / "meta_Books.jsonl.gz").write_bytes(gzip.compress("".join(turn(meta)).encode()))


def text(**files: tuple[str, str, str]) -> Callable[[Path, list[Row], Turn], None]:
    """Files by name ("__" for the dot): header, form of a row of the log, form of a row of the items (one of them)."""

    def write(root: Path, rows: list[Row], turn: Turn) -> None:
        for name, (head, event, item) in files.items():
            body = turn(rows) if event else turn([(i, i + 1960, 0, 0) for i in ITEMS])
            (root / name.replace("__", ".")).write_text(lines(body, event or item, head))

    return write


FILMS = ("movieId,title,genres\n", "", "{0},Film ({1}),A|B")
COLONS = ("", "{0}::{1}::{2}::{3}", "")
DAT = ("", "", "{0}::Film ({1})::A|B")
INTER = ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n", "{0}\t{1}\t{2}\t{3}", "")
STARS = ("userId,movieId,rating,timestamp\n", "{0},{1},{2},{3}", "")
PLAYS = ("userID\tartistID\tweight\n", "{0}\t{1}\t{2}", "")
WHERE = ("", "{0}\t{3}\t{2}.5\t{1}.25\t{1}", "")
READERS = {
    "ml-latest-small": text(ratings__csv=STARS, movies__csv=FILMS),
    "ml-10m": text(ratings__dat=COLONS, movies__dat=DAT),
    "ml-1m": text(ratings__dat=COLONS, movies__dat=DAT),
    "ml-1m parquet": ml_1m_parquet,
    "ml-100k": text(u__data=("", "{0}\t{1}\t{2}\t{3}", ""), u__item=("", "", "{0}|Film ({1})|d|v|u|1|0")),
    "steam": text(steam__inter=INTER, steam__item=("item_id:token\tyear:float\n", "", "{0}\t{1}")),
    "lastfm": text(user_artists__dat=PLAYS, artists__dat=("id\tname\n", "", "{0}\tArtist {1}")),
    "gowalla": text(**{"loc-gowalla_totalCheckins__txt": WHERE}),
    "gowalla parquet": gowalla_parquet,
    "amazon-2014": text(ratings__csv=("", "AUSERNUMBER{0},B{1:09d},{2},{3}", "")),
    "amazon-2018": text(ratings__csv=("", "B{1:09d},AUSERNUMBER{0},{2},{3}", "")),
    "amazon-2023": text(ratings__csv=("user_id,parent_asin,rating,timestamp\n", "U{0},P{1},{2},{3}000", "")),
    "amazon-reviews": amazon_reviews,
}


def written(root: Path, reader: str, turn: Turn) -> str:
    """The dataset's folder below `root`, its rows in the order that `turn` gives them; the dataset's name."""
    name = reader.split()[0]
    (root / name).mkdir(parents=True)
    if name == "ml-100k":
        (root / name / "u.genre").write_text("War|0\nDrama|1\n")
    READERS[reader](root / name, log(), turn)
    return name


def shuffle(seed: int) -> Turn:
    return lambda rows: [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]


def content(value: object) -> object:
    """All that a dataset or a split holds, for comparison."""
    if isinstance(value, Histories):
        return {name: content(part) for name, part in vars(value).items()}
    return (value.dtype, value.tolist()) if isinstance(value, np.ndarray) else value


def everything(dataset: Dataset) -> str:
    fields = [content(dataset.histories), content(dataset.parts), content(dataset.dropped), dataset.report]
    return str([*fields, dataset.catalogue.digest])


def has_ratings(reader: str) -> bool:
    return "parquet" not in reader and reader != "gowalla"


CLEANED = [(reader, each) for reader in READERS for each in CLEANING if "min_rating" not in each or has_ratings(reader)]


@pytest.mark.parametrize(("reader", "settings"), CLEANED, ids=str)
def test_shuffled_lines_give_the_same_dataset_and_splits(tmp_path: Path, reader: str, settings: dict) -> None:
    name = written(tmp_path / "a", reader, sorted)
    written(tmp_path / "b", reader, shuffle(1))
    config = DataConfig.model_validate({"name": name, **settings})
    one, other = (load(config, tmp_path / folder, seed=3) for folder in "ab")
    assert everything(one) == everything(other)
    for kind in (*SPLITS, *(("given", "given-all") if one.parts is not None else ())):
        untimed = kind == "temporal" and one.histories.times is None
        if untimed or (kind == "user-holdout" and "mask_dropped" in settings):
            continue
        for on in ("test", "validation"):
            made = [split(dataset, kind, on, seed=3) for dataset in (one, other)]  # type: ignore[arg-type]
            assert len({str({name: content(part) for name, part in vars(part).items()}) for part in made}) == 1, kind


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "inter"])
def test_shuffled_lines_of_ones_own_log_and_catalogue(tmp_path: Path, ending: str) -> None:
    found = []
    for turn in (sorted, shuffle(1), shuffle(2)):
        frame = pl.DataFrame(turn(log()), ["user_id", "item_id", "rating", "timestamp"], orient="row")
        file = tmp_path / f"log.{ending}"
        if ending == "parquet":
            frame.write_parquet(file)
        elif ending == "inter":
            file.write_text(lines(frame.rows(), INTER[1], INTER[0]))
        else:
            frame.write_csv(file, separator="," if ending == "csv" else "\t")
        items = tmp_path / "items.csv"
        items.write_text("item_id,title,tags\n" + "".join(turn([f"{i},T{i},a{i}|b\n" for i in ITEMS])))
        found.append(everything(load(DataConfig(path=file, catalogue=items), None, seed=3)))
    assert found[0] == found[1] == found[2]


def saved(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text(lines(rows, "{0},{1},{2},{3}", "user_id,item_id,rating,timestamp\n"))
    return folder / "log.csv"


def test_the_newest_of_events_of_one_day_is_drawn_and_counted(tmp_path: Path) -> None:
    dataset = load(DataConfig(path=saved(tmp_path, log(times=2))), None, seed=0)
    histories = dataset.histories
    assert histories.ordered
    assert histories.times is not None
    pairs = Counter(zip(histories.owners.tolist(), histories.times.tolist(), strict=True))
    tied = sum(count for count in pairs.values() if count > 1)
    assert dataset.report["events of equal time"] == histories.tied_events == tied
    rule = split(dataset, "leave-one-out", "test", 0).rule
    assert f"{tied} of {len(histories.items)} events have the time of another" in rule
    ranks = set()
    for user in range(len(histories)):
        moments = histories.times[histories.offsets[user] : histories.offsets[user + 1]]
        day = histories.row(user)[moments == moments[-1]]
        ranks.add(int((day < day[-1]).sum()))  # the place of the "newest" among those of its day, by id
    assert len(ranks) > 3
    other = load(DataConfig(path=tmp_path / "log.csv"), None, seed=1)
    assert other.histories.items.tolist() != histories.items.tolist(), "the draw goes by the public seed"


def test_a_log_of_one_moment_is_a_log_without_times(tmp_path: Path) -> None:
    rows = log(times=1)
    tied = load(DataConfig(path=saved(tmp_path, rows)), None, seed=0)
    (tmp_path / "untimed.csv").write_text(lines(rows, "{0},{1},{2}", "user_id,item_id,rating\n"))
    untimed = load(DataConfig(path=tmp_path / "untimed.csv"), None, seed=0)
    assert not tied.histories.ordered
    assert tied.histories.items.tolist() == untimed.histories.items.tolist()
    assert str(tied.report["order"]).startswith("unknown")
    rules = [split(dataset, "leave-two-out", "test", 0).rule for dataset in (tied, untimed)]
    assert rules[0] == rules[1]
    assert "by a seeded draw" in rules[0]


def test_users_of_one_moment_among_others_have_no_order_and_are_counted(tmp_path: Path) -> None:
    rows = [(user, item, rating, 7 if user <= 4 else moment) for user, item, rating, moment in log(times=40)]
    dataset = load(DataConfig(path=saved(tmp_path, rows)), None, seed=0)
    assert dataset.histories.ordered
    assert dataset.report["users of one time"] == 4
    assert "4 users have one time for all of theirs" in split(dataset, "ratio", "test", 0).rule
    batch = dataset.histories.batch(np.arange(12), 0)
    assert batch.tied is not None
    assert batch.tied.tolist() == [True] * 4 + [False] * 8
    assert batch.recency(0.5).tolist() == [1.0] * 4 + [0.5] * 8
    assert batch.unordered().recency(0.5).tolist() == [1.0] * 12
    assert batch.slice(3, 5).recency(0.5).tolist() == [1.0, 0.5]


def test_one_users_times_change_nothing_of_the_others(tmp_path: Path) -> None:
    """Were it decided for everybody by one user whether there is an order, the clip would bound nothing."""
    flat = [(user, item, rating, 7) for user, item, rating, _ in log()]
    one = [(user, item, rating, 7 + item * (user == 12)) for user, item, rating, _ in flat]
    batches = [
        load(DataConfig(path=saved(tmp_path / str(n), rows)), None, seed=0).histories.batch(np.arange(11), 0)
        for n, rows in enumerate((flat, one))
    ]
    assert batches[0].items.tolist() == batches[1].items.tolist()
    assert batches[0].ordered == batches[1].ordered
    assert batches[0].recency(0.5).tolist() == batches[1].recency(0.5).tolist() == [1.0] * 11


@pytest.mark.parametrize("timed", [True, False])
def test_lines_order_events_only_where_the_scenario_says_so(tmp_path: Path, timed: bool) -> None:
    rows = [(user, item, 5, 9) for user in range(1, 4) for item in (3, 1, 2)]
    form, head = ("{0},{1},{3}", "user_id,item_id,timestamp\n") if timed else ("{0},{1}", "user_id,item_id\n")
    for turned in (rows, rows[::-1]):
        (tmp_path / "log.csv").write_text(lines(turned, form, head))
        dataset = load(DataConfig(path=tmp_path / "log.csv", ordered="lines"), None, seed=0)
        wanted = [item for user, item, _, _ in turned if user == 1]
        assert dataset.histories.ordered
        assert [int(dataset.catalogue.ids[i]) for i in dataset.histories.row(0)] == wanted
        assert str(dataset.report["order"]).endswith("as in the source")
    named = written(tmp_path, "ml-1m parquet", sorted)
    with pytest.raises(InputError, match="an order of its own"):
        load(DataConfig(name=named, ordered="lines"), tmp_path, seed=0)


def test_a_draw_depends_on_the_ids_alone_and_not_on_the_catalogue(tmp_path: Path) -> None:
    rows = log(times=1)
    whole = load(DataConfig(path=saved(tmp_path / "a", rows)), None, seed=0)
    more = [*rows, *((99, item, 5, 1) for item in range(-40, 60))]  # a user with items that nobody else has
    other = load(DataConfig(path=saved(tmp_path / "b", more)), None, seed=0)
    for user in range(12):
        names = [[dataset.catalogue.ids[item] for item in dataset.histories.row(user)] for dataset in (whole, other)]
        assert names[0] == names[1]


def test_an_unrated_event_stays_where_no_setting_needs_ratings(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,rating,timestamp\n1,a,,1\n1,b,4,2\n1,c,2,3\n2,a,5,1\n2,b,5,2\n")
    dataset = load(DataConfig(path=tmp_path / "log.csv"), None, seed=0)
    assert len(dataset.histories.items) == 5
    assert dataset.report["without a rating"] == 1
    assert dataset.histories.batch(np.array([0]), 0).rated().lengths.tolist() == [2]
    rated = load(DataConfig(path=tmp_path / "log.csv", min_rating=3), None, seed=0)
    assert rated.report["missing values"] == 1
    assert len(rated.histories.items) == 3
