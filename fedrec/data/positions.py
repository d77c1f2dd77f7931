"""Where ids are in a sorted list of them, and which other spelling an id may have there."""

import polars as pl


def positions_of(values: pl.Series, ids: pl.Series) -> pl.Series:
    """The position of each value in the sorted, unique `ids`; null where it is not among them."""
    found = ids.search_sorted(values)
    return found.set(ids.gather(found.clip(0, len(ids) - 1)) != values, None).cast(pl.Int64)


def other_spelling(item: object, item_ids: pl.Series) -> str:
    """A word on an id of the catalogue that is the number `item` in another spelling; empty for none."""
    number = str(item).lstrip("0").partition(".")[0]
    if item_ids.dtype != pl.String or not number.isdigit():
        return ""
    others = item_ids.filter(item_ids.str.contains(rf"^0*{number}(?:\.0*)?$"))
    return f"; it has '{others[0]}': write ids alike in both" if len(others) else ""
