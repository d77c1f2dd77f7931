"""Cleaning a log: order, missing values, duplicates, rating threshold and k-core, each counted."""

import polars as pl

from fedrec.data.log import Log
from fedrec.errors import InputError

Counts = dict[str, int | float | str]


def clean(log: Log, min_rating: float | None = None, k_core: int = 0) -> tuple[pl.DataFrame, Counts]:
    """The events that remain, oldest first, and what was counted on the way.

    In this order: rows without a rating or timestamp (where the log has such a column) go; rows are sorted by
    time, ties in the source's order; of several events of one user with one item the first stays; events rated
    below `min_rating` go; users and items with fewer than `k_core` events go until none is left.

    Raises: InputError when ratings are asked for that the log does not have, or when nothing remains.
    """
    events = log.events
    counts: Counts = {"rows read": len(events)}

    kept = events.drop_nulls().filter(~pl.any_horizontal(pl.selectors.float().is_nan()))
    counts["missing values"] = len(events) - len(kept)
    if "timestamp" in kept.columns:
        kept = kept.sort("timestamp", maintain_order=True)

    events, kept = kept, kept.unique(["user", "item"], keep="first", maintain_order=True)
    counts["duplicates"] = len(events) - len(kept)

    if min_rating is not None:
        if "rating" not in kept.columns:
            raise InputError(
                f"{log.source}: min_rating = {min_rating:g} needs ratings and there are none; leave it out"
            )
        events, kept = kept, kept.filter(pl.col("rating") >= min_rating)
        counts[f"rated below {min_rating:g}"] = len(events) - len(kept)

    if k_core > 1:
        events, rounds = kept, 0
        while True:
            dense = kept.filter(pl.len().over("user") >= k_core, pl.len().over("item") >= k_core)
            if len(dense) == len(kept):
                break
            kept, rounds = dense, rounds + 1
        counts[f"outside the {k_core}-core"] = len(events) - len(kept)
        counts["k-core rounds"] = rounds

    if kept.is_empty():
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        blank = [f"'{name}'" for name in log.events.columns if log.events[name].is_null().all()]
        mend = f"fill the column {blank[0]} or take it out" if blank else "loosen data.min_rating or data.k_core"
        raise InputError(f"{log.source}: no event is left after cleaning ({told}); {mend}")
    return kept, counts
