"""MovieLens folders (GroupLens, https://grouplens.org/datasets/movielens/): the publisher's files, and for ml-1m also
the parquet files of the NCF split (He et al. 2017), which tell the order but neither stars nor timestamps."""

from pathlib import Path

import polars as pl

from fedrec.data.log import Log
from fedrec.data.recbole import read_atomic, read_items
from fedrec.data.tables import need, read_delimited, read_parquet, typed_events

_YEAR = r"\s*\((\d{4})\)\s*$"


def read_ml_1m(folder: Path) -> Log:
    """`ratings.dat` and `movies.dat`, or `interactions.parquet`, `sequences.parquet` and `movies.dat`.

    In the parquet files the items that `sequences.parquet` leaves out (fewer than 5 ratings) count as oldest.
    `ncf_leave_one_out.parquet`, where it is there, becomes the fixed test split.
    """
    items = _movies_dat(folder / "movies.dat")
    test = folder / "ncf_leave_one_out.parquet"
    fixed = read_parquet(test, ("user_id", "item_id", "negatives")) if test.is_file() else None
    fixed = None if fixed is None else fixed.rename({"user_id": "user", "item_id": "item"})
    if (folder / "ratings.dat").is_file():
        source = folder / "ratings.dat"
        frame = read_delimited(source, "::", ("user_id", "item_id", "rating", "timestamp"), encoding="iso-8859-1")
        return Log(str(folder), typed_events(frame, source), True, items, fixed_test=fixed)
    need(folder, "interactions.parquet", "sequences.parquet")
    pairs = read_parquet(folder / "interactions.parquet", ("user_id", "item_id"))
    order = read_parquet(folder / "sequences.parquet", ("user_id", "item_id", "position"))
    events = pairs.join(order, on=["user_id", "item_id"], how="left", maintain_order="left")
    events = events.sort("user_id", "position", nulls_last=False, maintain_order=True).drop("position")
    return Log(str(folder), typed_events(events, folder / "interactions.parquet"), True, items, fixed_test=fixed)


def read_ml_100k(folder: Path) -> Log:
    """The publisher's `u.data` and `u.item`, or RecBole's `ml-100k.inter` and `ml-100k.item`."""
    if (folder / "u.data").is_file():
        columns = ("user_id", "item_id", "rating", "timestamp")
        events = typed_events(read_delimited(folder / "u.data", "\t", columns), folder / "u.data")
        return Log(str(folder), events, True, _u_item(folder))
    need(folder, "ml-100k.inter", "ml-100k.item")
    items = read_items(folder / "ml-100k.item")
    years = pl.col("release_year").cast(pl.String).cast(pl.Float64, strict=False)
    items = items.select(
        "item", pl.col("movie_title").alias("title"), years.alias("year"), pl.col("class").alias("genres")
    )
    return Log(str(folder), read_atomic(folder / "ml-100k.inter"), True, items.with_columns(_as_list("genres", " ")))


def read_ml_latest_small(folder: Path) -> Log:
    """`ratings.csv` and `movies.csv`."""
    need(folder, "ratings.csv", "movies.csv")
    ratings = read_delimited(folder / "ratings.csv", ",")
    movies = read_delimited(folder / "movies.csv", ",")
    names = {"userId": "user_id", "movieId": "item_id"}
    events = typed_events(ratings.rename(names, strict=False), folder / "ratings.csv")
    genres = pl.col("genres").replace("(no genres listed)", "")
    items = _with_year(movies.select(pl.col("movieId").cast(pl.Int64).alias("item"), "title", genres))
    return Log(str(folder), events, True, items)


def _movies_dat(file: Path) -> pl.DataFrame:
    need(file.parent, file.name)
    table = read_delimited(file, "::", ("item", "title", "genres"), encoding="iso-8859-1")
    return _with_year(table.with_columns(pl.col("item").cast(pl.Int64)))


def _u_item(folder: Path) -> pl.DataFrame:
    need(folder, "u.item", "u.genre")
    genres = [line.split("|")[0] for line in (folder / "u.genre").read_text().splitlines() if line]
    columns = ("item", "title", "released", "video", "url", *genres)
    table = read_delimited(folder / "u.item", "|", columns, encoding="iso-8859-1")
    marked = pl.concat_list(pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres).list.drop_nulls()
    table = table.select(pl.col("item").cast(pl.Int64), "title", marked.list.join("|").alias("genres"))
    return _with_year(table)


def _as_list(column: str, separator: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.split(separator)


def _with_year(table: pl.DataFrame) -> pl.DataFrame:
    """`title` without the year in brackets at its end, the year as a number, genres as lists."""
    return table.select(
        "item",
        pl.col("title").str.replace(_YEAR, ""),
        pl.col("title").str.extract(_YEAR).cast(pl.Float64).alias("year"),
        _as_list("genres", "|"),
    )
