"""Dislikes: what a user rated too low to count as an event; said in the report, masked, and drawn as negatives.

A dislike is as private as an event. It stays on the device: it masks this user's own list, and it decides which of
this user's negatives a contribution is made of, before the clip of the whole contribution.
"""

import numpy as np
import polars as pl

from fedrec.data.cleaning import Counts, clean
from fedrec.data.log import Log
from fedrec.errors import InputError


def dislikes(log: Log, min_rating: float | None, *, keep_repeats: bool = False) -> pl.DataFrame:
    """`user` and `item` of what was rated below `min_rating`, each pair once, without what the user also liked.

    Args:
        log: as it was read.
        min_rating: the threshold.
        keep_repeats: as for `clean`: else the first event of a user with an item decides.

    Raises:
        InputError: where there is no threshold.
    """
    if min_rating is None:
        raise InputError("data.mask_dropped leaves out what is rated below data.min_rating; give that too")
    events, _ = clean(log, keep_repeats=keep_repeats)
    low, liked = (events.filter(part) for part in (pl.col("rating") < min_rating, pl.col("rating") >= min_rating))
    pairs = low.select("user", "item").unique(maintain_order=True)
    return pairs.join(liked.select("user", "item").unique(), on=["user", "item"], how="anti", maintain_order="left")


def said_of_ratings(log: Log, min_rating: float | None, mask: bool, negatives: bool) -> Counts:
    """What a dataset's report says of dislikes; nothing for a log without any."""
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
