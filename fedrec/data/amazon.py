"""Reader of Amazon reviews (McAuley Lab, https://amazon-reviews-2023.github.io/), plain or gzipped.

It reads the ratings-only CSV of 2014, 2018 and 2023, the reviews of 2018 and 2023 as JSON lines, and their meta files.

Differs from the usual code in what counts as public. The reader takes title, brand, category and price from the meta
files. Average rating, number of ratings, ranks and also-bought lists derive from users' behaviour and are left out.
"""

from pathlib import Path

import polars as pl

from fedrec.data.containers import kind, opened
from fedrec.data.events import typed_events
from fedrec.data.ids import ids
from fedrec.data.log import Log
from fedrec.data.tables import read_delimited
from fedrec.errors import InputError, first_line

_USER, _RATING = ("user_id", "reviewerID"), ("rating", "overall")
_ITEM, _TIME = ("parent_asin", "asin"), ("timestamp", "unixReviewTime")
_BLOCK = 1 << 26  # bytes of JSON lines read at a time; most of the text is dropped

Kinds = dict[str, pl.DataType]


def read_amazon(folder: Path) -> Log:
    """Read one file of reviews or ratings (`*.csv`, `*.jsonl`, `*.json`, perhaps `.gz`), and `meta_*` if present."""
    plain = [file for file in sorted(folder.iterdir()) if file.suffix.lower() != ".zip"]
    files = [file for file in plain if kind(file) in (".csv", ".json", ".jsonl")]
    metas = [file for file in files if file.name.startswith("meta_")]
    reviews = [file for file in files if file not in metas]
    if len(reviews) != 1 or len(metas) > 1:
        raise InputError(
            f"{folder}: holds {len(reviews)} files of reviews and {len(metas)} of metadata; keep one category a "
            "folder, with one file of reviews (.csv, .jsonl or .json, perhaps .gz) and at most one meta_ file"
        )
    file = reviews[0]
    events = typed_events(_ratings(file) if kind(file) == ".csv" else _reviews(file), file)
    return Log(str(folder), events, items=_meta(metas[0]) if metas else None)


def _ratings(file: Path) -> pl.DataFrame:
    """Read ratings with a header (2023), or four columns without one: user first (2014) or item first (2018)."""
    with opened(file) as stream:
        header = stream.readline().decode("utf-8", errors="replace").strip().split(",")
    if "rating" in header:
        table = read_delimited(file, ",")
        known = {_first(table.columns, _ITEM, file): "item_id", _first(table.columns, _USER, file): "user_id"}
        return table.rename(known)
    table = read_delimited(file, ",", ("first", "second", "rating", "timestamp"))
    of_items = [(table[name].str.len_chars() == 10).all() for name in ("first", "second")]
    if of_items[0] == of_items[1]:
        raise InputError(
            f"{file}: items (10 characters) and users are not distinguishable in the first two columns; "
            "give a header line: user_id,parent_asin,rating,timestamp"
        )
    return table.rename(
        {"first": "item_id", "second": "user_id"} if of_items[0] else {"first": "user_id"} | {"second": "item_id"}
    )


def _reviews(file: Path) -> pl.DataFrame:
    kinds: Kinds = dict.fromkeys((*_USER, *_ITEM), pl.String())
    kinds |= dict.fromkeys((*_RATING, *_TIME), pl.Float64())
    table = _json_lines(file, kinds)
    names = ("user_id", "item_id", "rating", "timestamp")
    columns = (
        pl.coalesce(found).alias(name) for name, found in zip(names, (_USER, _ITEM, _RATING, _TIME), strict=True)
    )
    return table.select(columns)


def _meta(file: Path) -> pl.DataFrame:
    """Read the items: `title`, and where known `brand`, `category` (labels) and `price`."""
    labels = pl.List(pl.String())
    kinds: Kinds = {"parent_asin": pl.String(), "asin": pl.String(), "title": pl.String(), "brand": pl.String()}
    kinds |= {"store": pl.String(), "price": pl.String(), "category": labels, "categories": labels}
    table = _json_lines(file, kinds)
    item = ids(table.select(pl.coalesce(_ITEM).alias("item_id"))["item_id"], file).alias("item")
    price = pl.col("price").str.extract(r"(\d[\d,]*\.?\d*)").str.replace_all(",", "").cast(pl.Float64, strict=False)
    chosen = table.select(
        pl.col("title").fill_null(""),
        pl.coalesce("brand", "store").alias("brand"),
        price,
        pl.coalesce("category", "categories").alias("category"),
    )
    filled = [name for name in chosen.columns if name == "title" or chosen[name].is_not_null().any()]
    known = chosen.select(filled).insert_column(0, item)
    # Keep the row of an item with the most known cells; among equally full ones, the first in the order of values.
    blanks = pl.sum_horizontal(pl.col(filled).is_null().cast(pl.Int64))
    said = [pl.col(name).list.join("|") if name == "category" else pl.col(name) for name in filled]
    return known.sort(["item", blanks, *said], nulls_last=True).unique("item", keep="first", maintain_order=True)


def _json_lines(file: Path, kinds: Kinds) -> pl.DataFrame:
    parts = [pl.DataFrame(schema=kinds)]
    try:
        with opened(file) as stream:
            while block := stream.read(_BLOCK):
                parts.append(pl.read_ndjson(block + stream.readline(), schema=kinds))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file}: not JSON lines of Amazon reviews ({first_line(error)})") from None
    table = pl.concat(parts)
    if table.is_empty():
        raise InputError(f"{file}: has no rows; get the file again from its publisher")
    return table


def _first(columns: list[str], wanted: tuple[str, ...], file: Path) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise InputError(f"{file}: needs a column '{wanted[0]}' or '{wanted[1]}' in its first line")
