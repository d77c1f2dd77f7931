"""Cleaning of a log: missing values, duplicates, rating threshold and k-core, each counted, for any order of rows."""

import polars as pl

from fedrec.data.log import Log
from fedrec.errors import InputError

Counts = dict[str, int | float | str]


def clean(
    log: Log, min_rating: float | None = None, k_core: int = 0, *, keep_repeats: bool = False
) -> tuple[pl.DataFrame, Counts]:
    """Clean a log, and count the rows that each step drops. Shuffled rows give the same events in the same order.

    The steps, in this order:
    1. Drop rows without a timestamp, where the log has that column, and without a rating, where `min_rating` needs one.
    2. Of several events of one user with one item keep the oldest, and of equally old ones the highest rated, unless
       `keep_repeats`.
    3. Drop events rated below `min_rating`.
    4. Drop users and items with fewer than `k_core` events until none is left.

    Returns:
        The events that remain, by user and oldest first, and the counts by name.

    Raises:
        InputError: when `min_rating` is set and the log has no ratings, or when no event remains.
    """
    events = log.events
    counts: Counts = {"rows read": len(events)}

    kept = events.with_columns(pl.selectors.float().fill_nan(None))
    kept = kept.drop_nulls([*log.order, *["rating"] * (min_rating is not None and "rating" in kept.columns)])
    counts["missing values"] = len(events) - len(kept)
    if "rating" in kept.columns and kept["rating"].null_count():
        counts["without a rating"] = kept["rating"].null_count()

    events = canonical(kept, log.order)
    first = events.unique(["user", "item"], keep="first", maintain_order=True)
    counts["repeats" if keep_repeats else "duplicates"] = len(events) - len(first)
    kept = events if keep_repeats else first

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


def canonical(events: pl.DataFrame, order: list[str]) -> pl.DataFrame:
    """Sort `events` by user, item, `order`, rating (highest first) and part: the same for any order of the rows."""
    keys = [name for name in ("user", "item", *order, "rating", "part") if name in events.columns]
    return events.sort(keys, descending=[name == "rating" for name in keys], nulls_last=True)
