"""The files of public datasets as their publishers write them, in hand-made miniature."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fedrec.data import amazon
from fedrec.data.catalogue import Block, Categories, Numbers, Texts
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.errors import InputError


def folder(root: Path, name: str, **files: str | bytes) -> Path:
    made = root / name
    made.mkdir()
    for file, content in files.items():
        written = made / file.replace("__", ".")
        written.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def read(root: Path, name: str, **settings: object) -> Dataset:
    return load(DataConfig.model_validate({"name": name, **settings}), root, seed=0)


def named(dataset: Dataset) -> list[list[str]]:
    histories = dataset.histories
    return [[dataset.catalogue.ids[item] for item in histories.row(user)] for user in range(len(histories))]


def block(dataset: Dataset, name: str) -> Block:
    return next(block for block in dataset.catalogue.blocks if block.name == name)


ARTISTS = "id\tname\n5\tDuran Duran\n"


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m", "ml-latest", "ml-latest-small"])
def test_movielens_csv(tmp_path: Path, name: str) -> None:
    ratings = "userId,movieId,rating,timestamp\n1,296,5.0,30\n1,7,3.5,10\n2,296,0.5,20\n"
    movies = 'movieId,title,genres\n7,"Sabrina, or Élise (1995)",Comedy|Romance\n296,Pulp (1994),(no genres listed)\n'
    dataset = read(folder(tmp_path, name, ratings__csv=ratings, movies__csv=movies), name)
    assert named(dataset) == [["7", "296"], ["296"]]
    assert dataset.histories.ratings.tolist() == [3.5, 5, 0.5]  # type: ignore[union-attr]
    assert dataset.catalogue.titles == ("Sabrina, or Élise", "Pulp")
    genres, year = block(dataset, "genres"), block(dataset, "year")
    assert isinstance(genres, Categories)
    assert isinstance(year, Numbers)
    assert genres.labels == ("Comedy", "Romance")
    assert year.values.tolist() == [1995, 1994]


def test_a_broken_movielens_csv_is_told_with_its_line(tmp_path: Path) -> None:
    movies = "movieId,title,genres\n7,A (1995),X\n"
    head = "userId,movieId,rating,timestamp\n"
    for number, (rows, message) in enumerate(
        [
            ("1,7,5,30\n1,7,good,31\n", "line 3: 'rating' = 'good'"),
            ("", "has no rows; a log needs"),
            ("1,,5,3\n", "line 2"),
            ("1,7,5,3\n1,,5,3\n\n\n", "line 3"),
        ]
    ):
        root = tmp_path / str(number)
        root.mkdir()
        with pytest.raises(InputError, match=message):
            read(folder(root, "ml-25m", ratings__csv=head + rows, movies__csv=movies), "ml-25m")


@pytest.mark.parametrize("inner", ["", "ml-10M100K"])
def test_movielens_10m_is_utf8_between_double_colons(tmp_path: Path, inner: str) -> None:
    root = tmp_path / "ml-10m" / inner
    root.mkdir(parents=True)
    (root / "ratings.dat").write_text("1::122::5::838985046\n1::185::4.5::838983525\n", encoding="utf-8")
    (root / "movies.dat").write_text(
        "122::Amélie: le film (2001)::Comedy\n185::B (1995)::(no genres listed)\n", "utf-8"
    )
    dataset = read(tmp_path, "ml-10m")
    assert named(dataset) == [["185", "122"]]
    assert dataset.catalogue.titles == ("Amélie: le film", "B")
    genres = block(dataset, "genres")
    assert isinstance(genres, Categories)
    assert genres.labels == ("Comedy",)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("gowalla", {"loc-gowalla_totalCheckins__txt__gz": gzip.compress(b"0\tsoon\t1\t2\t3\n")}, "line 1: 'time"),
        ("gowalla", {"loc-gowalla_totalCheckins__txt": "0\t5\t1\t2\t3\n\t5\t1\t2\t3\n"}, "line 2: 'user_id'"),
        ("ml-100k", {"u__data": "1\t1\t5\t9\n", "u__genre": "War|0\n", "u__item": "|A||||1\n"}, "u.item, line 1"),
        ("ml-100k", {"u__data": "1\t1\t5\t9\n", "u__genre": b"W\xff|0\n", "u__item": "|A||||1\n"}, "u.item, line 1"),
        ("ml-100k", {"u__data": "1\t1\tx\t9\n", "u__genre": "War|0\n", "u__item": "1|A||||1\n"}, "u.data, line 1"),
        ("lastfm", {"user_artists__dat": "userID\tartistID\tweight\n2\t5\tx\n", "artists__dat": ARTISTS}, "line 2"),
    ],
)
def test_a_fault_is_told_with_its_line_with_and_without_a_header(
    tmp_path: Path, name: str, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(folder(tmp_path, name, **files), name)


@pytest.mark.parametrize("name", ["steam", "ml-1m", "gowalla", "amazon-books"])
def test_any_recbole_folder(tmp_path: Path, name: str) -> None:
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\tb\t3\t20\nu\ta\t4\t10\n"
    item = "item_id:token\ttitle:token_seq\tprice:float\tvector:float_seq\na\tThe A\t1.5\t1 2\nb\tB\t\t3 4\n"
    files = {f"{name}__inter": inter, f"{name}__item": item}
    dataset = read(folder(tmp_path, name, **files), name)
    assert named(dataset) == [["a", "b"]]
    assert dataset.catalogue.titles == ("The A", "B")
    assert [found.name for found in dataset.catalogue.blocks] == ["title", "price"]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("user_id:token\tartist_id:token\tweight:float", ["u\ta\t7", "u\tb\t9"]),
        ("session_id:token\titem_id:token\ttimestamp:float", ["u\ta\t7", "u\tb\t9"]),
        ("visitor_id:token\tproduct_id:token\tdate:float", ["u\ta\t7", "u\tb\t9"]),
        (
            "review_id:token\tuser_id:token\tbusiness_id:token\tstars:float\tdate:float",
            ["r\tu\ta\t5\t1", "s\tu\tb\t4\t2"],
        ),
    ],
)
def test_recbole_names_users_and_items_in_several_ways(tmp_path: Path, header: str, rows: list[str]) -> None:
    column = header.split("\t")[2 if header.startswith("review") else 1]
    item = f"{column}\tname:token_seq\na\tAnn\nb\tBob\n"
    dataset = read(folder(tmp_path, "x", x__inter="\n".join([header, *rows]), x__item=item), "x")
    assert [sorted(row) for row in named(dataset)] == [["a", "b"]]
    names = block(dataset, "name")
    assert isinstance(names, Texts)
    assert names.texts == ("Ann", "Bob")
    assert (dataset.histories.times is not None) == ("date" in header or "timestamp" in header)
    assert (dataset.histories.ratings is not None) == ("stars" in header)


def test_a_recbole_file_that_does_not_tell_its_items_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, "x", x__inter="user_id:token\tshop_id:token\tbrand_id:token\n1\t2\t3\n")
    with pytest.raises(InputError, match="needs a column 'item_id'"):
        read(root, "x")
    (tmp_path / "y").mkdir()
    with pytest.raises(InputError, match=r"put RecBole's y\.inter there"):
        read(root, "y")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("item_id:token\titem:token", "column 'item' beside 'item_id'"),
        ("item_id:token\tname:token\tname:float", "line 1: two columns are called 'name'"),
    ],
)
def test_recbole_columns_of_one_name_are_refused(tmp_path: Path, header: str, message: str) -> None:
    row = "\t".join("1" for _ in header.split("\t"))
    inter = "user_id:token\titem_id:token\n1\t1\n"
    with pytest.raises(InputError, match=message) as caught:
        read(folder(tmp_path, "x", x__inter=inter, x__item=f"{header}\n{row}\n"), "x")
    assert "x.item" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recbole_title_is_text_though_it_be_typed_a_number(tmp_path: Path) -> None:
    files = {"x__inter": "user_id:token\titem_id:token\nu\ta\n", "x__item": "item_id:token\ttitle:float\na\t1984\n"}
    dataset = read(folder(tmp_path, "x", **files), "x")
    assert dataset.catalogue.titles == ("1984",)
    assert isinstance(block(dataset, "title"), Texts)


RATINGS = [("AUSERNUMBER01", "B000000001", 5.0, 1500000000), ("AUSERNUMBER01", "0000000002", 2.0, 1400000000)]


def ratings(kind: str) -> str:
    if kind == "2014":
        return "".join(f"{user},{item},{stars},{time}\n" for user, item, stars, time in RATINGS)
    if kind == "2018":
        return "".join(f"{item},{user},{stars},{time}\n" for user, item, stars, time in RATINGS)
    rows = (f"{user},{item},{stars},{time}123\n" for user, item, stars, time in RATINGS)
    return "user_id,parent_asin,rating,timestamp\n" + "".join(rows)


@pytest.mark.parametrize("kind", ["2014", "2018", "2023"])
@pytest.mark.parametrize("zipped", [False, True])
def test_amazon_ratings(tmp_path: Path, kind: str, zipped: bool) -> None:
    text = ratings(kind).encode()
    files = {"Books__csv__gz": gzip.compress(text)} if zipped else {"Books__csv": text}
    dataset = read(folder(tmp_path, "amazon-books", **files), "amazon-books")
    assert named(dataset) == [["0000000002", "B000000001"]]
    assert dataset.histories.ratings.tolist() == [2, 5]  # type: ignore[union-attr]
    part = 0.123 if kind == "2023" else 0  # milliseconds of 2023 count
    assert dataset.histories.times.tolist() == [1400000000 + part, 1500000000 + part]  # type: ignore[union-attr]


@pytest.mark.parametrize("year", [2018, 2023])
def test_amazon_reviews_and_meta(tmp_path: Path, year: int) -> None:
    if year == 2018:
        reviews = (
            '{"overall": 5.0, "reviewerID": "U1", "asin": "A", "unixReviewTime": 1500, "reviewText": "x"}\n'
            '{"overall": 1.0, "reviewerID": "U1", "asin": "B", "unixReviewTime": 1400, "image": ["y"]}\n'
        )
        meta = (
            '{"asin": "A", "title": "An A", "brand": "Acme", "category": ["Books", "New"], '
            '"price": "$1,003.50", "rank": "1"}\n'
            '{"asin": "A", "title": "twice"}\n{"asin": "B", "title": "A B", "category": [], "price": ""}\n'
        )
    else:
        reviews = (
            '{"rating": 5.0, "user_id": "U1", "asin": "a1", "parent_asin": "A", "timestamp": 1500000000999}\n'
            '{"rating": 1.0, "user_id": "U1", "asin": "B", "parent_asin": "B", "timestamp": 1400000000999}\n'
        )
        meta = (
            '{"parent_asin": "A", "title": "An A", "store": "Acme", "categories": ["Books", "New"], "price": 1003.5, '
            '"average_rating": 4.9, "rating_number": 7}\n{"parent_asin": "B", "title": "A B", "price": null}\n'
        )
    files: dict[str, str | bytes] = {"Books__jsonl": reviews, "meta_Books__jsonl__gz": gzip.compress(meta.encode())}
    dataset = read(folder(tmp_path, "amazon", **files), "amazon")
    assert named(dataset) == [["B", "A"]]
    assert dataset.catalogue.titles == ("An A", "A B")
    assert [found.name for found in dataset.catalogue.blocks] == ["title", "brand", "price", "category"]
    price, category = block(dataset, "price"), block(dataset, "category")
    assert isinstance(price, Numbers)
    assert isinstance(category, Categories)
    assert price.values[0] == 1003.5
    assert np.isnan(price.values[1])
    assert category.labels == ("Books", "New")


WHOLE = gzip.compress(ratings("2018").encode() * 99)
DAMAGED = WHOLE[:10] + b"\xff" * 20 + WHOLE[30:]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds 0 files of reviews"),
        ({"a__csv": "x", "b__csv": "y"}, "holds 2 files of reviews"),
        ({"a__csv": "1,2,3,4\n"}, "users are not distinguishable"),
        ({"a__jsonl": "not json\n"}, "not JSON lines"),
        ({"a__jsonl__gz": b"no gzip"}, "not a whole gzip file"),
        ({"a__jsonl__gz": WHOLE[:-9]}, "not a whole gzip file"),
        ({"a__jsonl__gz": DAMAGED}, "not a whole gzip file"),
        ({"a__csv__gz": b"no gzip"}, "not a whole gzip file"),
        ({"a__csv__gz": WHOLE[:12]}, "not a whole gzip file"),
        ({"a__csv__gz": DAMAGED}, "not a whole gzip file"),
        ({"a__jsonl": ""}, "has no rows"),
        ({"a__csv": "rating,user_id,parent_asin\n5,u,\n"}, r"a\.csv, line 2: 'item_id' is missing"),
        ({"a__csv": f"U1,{'B' * 10},5,1\n,{'B' * 10},5,1\n"}, r"a\.csv, line 2: 'user_id' is missing"),
        ({"a__csv__gz": gzip.compress(f"U1,{'B' * 10},x,1\r\n\r\n".encode())}, r"line 1: 'rating' = 'x'"),
        ({"a__jsonl": '{"asin": "A", "reviewerID": "U"}\n{"asin": "A"}\n'}, r"line 2: 'user_id' is missing"),
        ({"a__csv": "rating,user_id\n1,2\n"}, "needs a column 'parent_asin' or 'asin'"),
    ],
)
def test_amazon_files_that_cannot_be_read(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(folder(tmp_path, "amazon-x", **files), "amazon-x")
    assert "\n" not in str(caught.value)


def test_amazon_reviews_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        f'{{"asin": "A{n}", "reviewerID": "U{n % 3}", "overall": {n % 5}, "unixReviewTime": {n}}}\n' for n in range(50)
    ]
    root = folder(tmp_path, "amazon-x", a__jsonl__gz=gzip.compress("".join(rows).encode()))
    whole = read(root, "amazon-x")
    for size in (1, len(rows[0]), len(rows[0]) + 1, 1000):
        monkeypatch.setattr(amazon, "_BLOCK", size)
        parts = read(root, "amazon-x")
        assert named(parts) == named(whole)
        assert parts.histories.ratings.tolist() == whole.histories.ratings.tolist()
    assert len(whole.histories.items) == 50


def test_lastfm_counts_plays_and_has_no_order(tmp_path: Path) -> None:
    plays = "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n"
    artists = "id\tname\turl\tpictureURL\n51\tDuran Duran\thttp://x\ty\n52\tMorcheeba é\thttp://y\t\n"
    dataset = read(folder(tmp_path, "lastfm", user_artists__dat=plays, artists__dat=artists), "lastfm")
    assert sorted(named(dataset)[0]) == ["51", "52"]
    assert not dataset.histories.ordered
    assert dataset.catalogue.titles == ("Duran Duran", "Morcheeba é")
    assert [found.name for found in dataset.catalogue.blocks] == ["title"]


@pytest.mark.parametrize("zipped", [False, True])
def test_gowalla_check_ins(tmp_path: Path, zipped: bool) -> None:
    rows = (
        "0\t2010-10-19T23:55:27Z\t30.23\t-97.79\t22847\n0\t2010-10-18T22:17:43Z\t30.26\t-97.76\t420315\n"
        "0\t2010-10-17T23:42:03Z\t30.23\t-97.79\t22847\n"
    )
    name = "loc-gowalla_totalCheckins__txt"
    files = {f"{name}__gz": gzip.compress(rows.encode())} if zipped else {name: rows}
    dataset = read(folder(tmp_path, "gowalla", **files), "gowalla")
    assert named(dataset) == [["22847", "420315"]]
    assert dataset.histories.times.tolist() == [1287358923, 1287440263]  # type: ignore[union-attr]
    assert dataset.report["duplicates"] == 1
    latitude = block(dataset, "latitude")
    assert isinstance(latitude, Numbers)
    assert latitude.values.tolist() == [30.23, 30.26]
