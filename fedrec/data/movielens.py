"""Readers of MovieLens folders (GroupLens, https://grouplens.org/datasets/movielens/).

They read the publisher's files, and for ml-1m also the parquet files of the NCF split (He et al. 2017). Those have the
order of events, but neither stars nor timestamps.
"""

import codecs
from pathlib import Path

import polars as pl

from fedrec.data.columns import CatalogueColumns, LogColumns
from fedrec.data.containers import opened
from fedrec.data.events import typed_events
from fedrec.data.ids import ids
from fedrec.data.item_tables import read_catalogue
from fedrec.data.log import Log
from fedrec.data.people_tables import typed_people
from fedrec.data.recbole import read_atomic, read_items
from fedrec.data.tables import need, need_columns, read_delimited, read_parquet
from fedrec.errors import InputError

_YEAR = r"\s*\((\d{4})\)(?:\s*\(V\))?\s*$"  # "(V)": released on video


def read_ml_1m(folder: Path) -> Log:
    """Read `ratings.dat` and `movies.dat`, or `interactions.parquet`, `sequences.parquet` and `movies.dat`.

    `sequences.parquet` leaves out items with fewer than 5 ratings. Their events count as oldest, in an unknown order.
    `ncf_leave_one_out.parquet`, if present, becomes the fixed test split.
    """
    items = _movies_dat(folder / "movies.dat")
    fixed = _ncf_test(folder / "ncf_leave_one_out.parquet")
    people = _people(folder / "users.dat", "::", ("user_id", "gender", "age", "occupation", "zip_code"))
    if (folder / "ratings.dat").is_file():
        source = folder / "ratings.dat"
        frame = read_delimited(source, "::", ("user_id", "item_id", "rating", "timestamp"), encoding="iso-8859-1")
        return Log(str(folder), typed_events(frame, source), items, fixed_test=fixed, people=people)
    need(folder, "interactions.parquet", "sequences.parquet")
    pairs = read_parquet(folder / "interactions.parquet", ("user_id", "item_id"))
    order = read_parquet(folder / "sequences.parquet", ("user_id", "item_id", "position"))
    events = pairs.join(order, on=["user_id", "item_id"], how="left", maintain_order="left")
    place = events["position"].cast(pl.Int64).fill_null(-1).alias("place")
    typed = typed_events(events, folder / "interactions.parquet").with_columns(place)
    return Log(str(folder), typed, items, fixed_test=fixed, people=people)


def read_ml_100k(folder: Path) -> Log:
    """Read the publisher's `u.data` and `u.item`, or RecBole's `ml-100k.inter` and `ml-100k.item`."""
    if (folder / "u.data").is_file():
        columns = ("user_id", "item_id", "rating", "timestamp")
        events = typed_events(read_delimited(folder / "u.data", "\t", columns), folder / "u.data")
        own = _people(folder / "u.user", "|", ("user_id", "age", "gender", "occupation", "zip_code"))
        return Log(str(folder), events, _u_item(folder), people=own)
    need(folder, "ml-100k.inter", "ml-100k.item")
    items = read_items(folder / "ml-100k.item")
    need_columns(items, folder / "ml-100k.item", "movie_title", "release_year", "class")
    years = pl.col("release_year").cast(pl.String).cast(pl.Float64, strict=False)
    items = items.select(
        "item", pl.col("movie_title").alias("title"), years.alias("year"), pl.col("class").alias("genres")
    )
    events, items = read_atomic(folder / "ml-100k.inter"), items.with_columns(_as_list("genres", " "))
    return Log(str(folder), events, items, people=_people(folder / "ml-100k.user"))


def read_ml_10m(folder: Path) -> Log:
    """Read `ratings.dat` and `movies.dat` (UTF-8), in the folder or in its `ml-10M100K`, as in the archive."""
    inner = folder / "ml-10M100K"
    folder = inner if inner.is_dir() else folder
    need(folder, "ratings.dat", "movies.dat")
    source = folder / "ratings.dat"
    frame = read_delimited(source, "::", ("user_id", "item_id", "rating", "timestamp"))
    return Log(str(folder), typed_events(frame, source), _movies_dat(folder / "movies.dat", "utf-8"))


def read_ml_csv(folder: Path) -> Log:
    """Read `ratings.csv` and `movies.csv`: 20M, 25M, 32M, latest and latest-small."""
    need(folder, "ratings.csv", "movies.csv")
    kinds: dict[str, pl.DataType] = {
        "userId": pl.Int64(),
        "movieId": pl.Int64(),
        "rating": pl.Float64(),
        "timestamp": pl.Int64(),
    }
    ratings = read_delimited(folder / "ratings.csv", ",", kinds=kinds)
    need_columns(ratings, folder / "ratings.csv", "userId", "movieId")
    events = typed_events(ratings, folder / "ratings.csv")
    return Log(str(folder), events, _movies_csv(folder / "movies.csv"))


def movies_beside(ratings: Path) -> pl.DataFrame | None:
    """Read the `movies.csv` in the folder of MovieLens' own `ratings.csv`; None for any other file."""
    movies = ratings.with_name("movies.csv")
    return _movies_csv(movies) if ratings.name.lower() == "ratings.csv" and _is_movies(movies) else None


def read_own_catalogue(file: Path, columns: CatalogueColumns) -> pl.DataFrame:
    """Read a catalogue file with `read_catalogue`, or MovieLens' own `movies.csv` as its folder's reader does.

    Raises:
        InputError: as `read_catalogue`.
    """
    if columns == CatalogueColumns() and _is_movies(file):
        return _movies_csv(file)
    return read_catalogue(file, columns)


def _is_movies(file: Path) -> bool:
    if file.name.lower() != "movies.csv" or not file.is_file():
        return False
    with opened(file) as stream:
        return stream.readline().removeprefix(codecs.BOM_UTF8).rstrip() == b"movieId,title,genres"


def _movies_csv(file: Path) -> pl.DataFrame:
    movies = read_delimited(file, ",")
    need_columns(movies, file, "movieId", "title", "genres")
    item = ids(movies["movieId"], file).alias("item")
    return _with_year(movies.select(item, "title", pl.col("genres").replace("(no genres listed)", "")))


def _people(file: Path, separator: str = "\t", columns: tuple[str, ...] | None = None) -> pl.DataFrame | None:
    """Read age, gender and occupation of the users; zip codes stay in the file, since they nearly name a person."""
    if not file.is_file():
        return None
    table = read_delimited(file, separator, columns, encoding="iso-8859-1")
    table = table.rename(lambda name: name.partition(":")[0])
    need_columns(table, file, "user_id", "age", "gender", "occupation")
    return typed_people(table.select("user_id", "age", "gender", "occupation"), file, LogColumns())


def _ncf_test(file: Path) -> pl.DataFrame | None:
    if not file.is_file():
        return None
    table = read_parquet(file, ("user_id", "item_id", "negatives"))
    if not isinstance(table["negatives"].dtype, pl.List) or (table["negatives"].list.len() != 99).any():
        raise InputError(f"{file}: 'negatives' must be a list of 99 items in every row")
    return table.rename({"user_id": "user", "item_id": "item"})


def _movies_dat(file: Path, encoding: str = "iso-8859-1") -> pl.DataFrame:
    need(file.parent, file.name)
    table = read_delimited(file, "::", ("item", "title", "genres"), encoding=encoding)
    genres = pl.col("genres").replace("(no genres listed)", "")
    return _with_year(table.with_columns(ids(table["item"], file), genres))


def _u_item(folder: Path) -> pl.DataFrame:
    need(folder, "u.item", "u.genre")
    genres = [line.split("|")[0] for line in (folder / "u.genre").read_text("iso-8859-1").splitlines() if line]
    columns = ("item", "title", "released", "video", "url", *genres)
    table = read_delimited(folder / "u.item", "|", columns, encoding="iso-8859-1")
    marked = pl.concat_list(pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres).list.drop_nulls()
    table = table.select(ids(table["item"], folder / "u.item"), "title", marked.list.join("|").alias("genres"))
    return _with_year(table)


def _as_list(column: str, separator: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.split(separator)


def _with_year(table: pl.DataFrame) -> pl.DataFrame:
    """Move the year in brackets from the end of `title` to a number, and make lists of genres."""
    return table.select(
        "item",
        pl.col("title").str.replace(_YEAR, ""),
        pl.col("title").str.extract(_YEAR).cast(pl.Float64).alias("year"),
        _as_list("genres", "|"),
    )
