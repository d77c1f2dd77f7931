"""Positions of ids in a sorted list, and other spellings of an id there."""

import polars as pl


def positions_of(values: pl.Series, ids: pl.Series) -> pl.Series:
    """Return the position of each value in the sorted, unique `ids`; null for a value that is not among them."""
    found = ids.search_sorted(values)
    return found.set(ids.gather(found.clip(0, len(ids) - 1)) != values, None).cast(pl.Int64)


def other_spelling(item: object, item_ids: pl.Series) -> str:
    """Return a hint on an id of the catalogue that spells the number `item` differently; empty without one."""
    number = str(item).lstrip("0").partition(".")[0]
    if item_ids.dtype != pl.String or not number.isdigit():
        return ""
    others = item_ids.filter(item_ids.str.contains(rf"^0*{number}(?:\.0*)?$"))
    return f"; it has '{others[0]}': write ids alike in both" if len(others) else ""
