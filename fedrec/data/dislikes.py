"""Dislikes: items that a user rated too low to count as an event; reported, masked, and drawn as negatives.

A dislike is as private as an event and stays on the device. There it masks the user's own list. It also decides which
negatives the user trains on, before the clip of the whole contribution.
"""

import numpy as np
import polars as pl

from fedrec.data.cleaning import Counts, clean
from fedrec.data.histories import Histories
from fedrec.data.log import Log
from fedrec.data.positions import positions_of
from fedrec.errors import InputError


def dislikes(log: Log, min_rating: float | None, *, keep_repeats: bool = False) -> pl.DataFrame:
    """Return `user` and `item` of events rated below `min_rating`, each pair once, without items the user also liked.

    Args:
        log: the log before cleaning.
        min_rating: the threshold.
        keep_repeats: as for `clean`; if false, the first event of a user with an item decides.

    Raises:
        InputError: when `min_rating` is None.
    """
    if min_rating is None:
        raise InputError("data.mask_dropped masks items rated below data.min_rating; set data.min_rating too")
    events, _ = clean(log, keep_repeats=keep_repeats)
    low, liked = (events.filter(part) for part in (pl.col("rating") < min_rating, pl.col("rating") >= min_rating))
    pairs = low.select("user", "item").unique(maintain_order=True)
    return pairs.join(liked.select("user", "item").unique(), on=["user", "item"], how="anti", maintain_order="left")


def said_of_ratings(log: Log, min_rating: float | None, mask: bool, negatives: bool) -> Counts:
    """Return the lines of a dataset's report on dislikes; empty for a log without any."""
    if "rating" not in log.events.columns:
        return {}
    known = log.events["rating"].to_numpy()
    known = known[~np.isnan(known)]
    low = int((known < (0 if min_rating is None else min_rating)).sum())
    if min_rating is None:
        use = "are rated below 0 and count as likes; data.min_rating=0 drops them as dislikes"
    else:
        fate = "drawn as negatives and masked" if negatives else "masked in lists" if mask else "dropped"
        use = f"are below data.min_rating = {min_rating:g}: dislikes, {fate}"
    return {"dislikes": f"{low:,} of {len(known):,} events {use}"} if low else {}


def disliked_rows(events: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> Histories:
    """Return each user's items in no order, without the users and items that cleaning dropped."""
    place = events.select(
        positions_of(events["user"], user_ids).alias("user"),
        positions_of(events["item"].cast(item_ids.dtype), item_ids).alias("item"),
    )
    place = place.drop_nulls().sort("user", maintain_order=True)
    lengths = np.bincount(place["user"].to_numpy(), minlength=len(user_ids))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(offsets, place["item"].to_numpy().astype(np.int32), len(item_ids), ordered=False)
