"""Positions of ids in a sorted list, and other spellings of an id there."""

import numpy as np
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


def published_test(
    table: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a published test split as positions; None when cleaning dropped one of its users or items."""
    table = table.sort("user")
    users, targets = positions_of(table["user"], user_ids), positions_of(table["item"], item_ids)
    negatives = positions_of(table["negatives"].explode(), item_ids)
    if len(table) != len(user_ids) or users.null_count() or targets.null_count() or negatives.null_count():
        return None
    return targets.to_numpy().astype(np.int64), negatives.to_numpy().astype(np.int64).reshape(len(table), -1)
