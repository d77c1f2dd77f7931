"""The order of events: how far the data give it, and the lines on it in a report and in a split's rule.

Events of one user with equal times (or places) are undecided. A draw from the ids of user and item and a public seed
orders them (`Histories.oldest_first`), never the order of the lines. A user whose events all have one time has no
order, and a log of such users counts as unordered. A device decides from its own events alone whether it uses recency
(`UserBatch.tied`), so that one user's times do not change the contributions of others.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from fedrec.data.cleaning import Counts
from fedrec.data.histories import Histories

_SAID = {"timestamp": "by time", "place": "as in the source"}


def places(events: pl.DataFrame, order: list[str]) -> np.ndarray | None:
    """Number the distinct times and places in ascending order.

    Args:
        events: the events of a log.
        order: the columns that decide, the most important first.

    Returns:
        (events,) int64; None where times alone order the events, or nothing does.
    """
    if "place" not in order:
        return None
    return events.select(pl.struct(order).rank("dense").cast(pl.Int64))[order[0]].to_numpy()


def known_order(histories: Histories) -> Histories:
    """Return the same histories, not `ordered` if each user with several events has one time for all of them."""
    tied = histories.tied_users
    nobody = tied is not None and tied.any() and tied[histories.lengths > 1].all()
    return replace(histories, ordered=histories.ordered and not nobody)


def order_counts(histories: Histories, order: list[str]) -> Counts:
    """Return the lines of a dataset's report on the order, and on events whose order is undecided."""
    tied = histories.tied_users
    if tied is None:
        return {"order": "unknown"}
    said = ", then ".join(_SAID[name] for name in order)
    counts: Counts = {"order": said if histories.ordered else "unknown: every user has one time for all events"}
    return counts | {"events of equal time": histories.tied_events, "users of one time": int(tied.sum())}


def ties_rule(histories: Histories) -> str:
    """Return the part of a split's rule on undecided events; empty where there are none."""
    events, users = histories.tied_events, histories.tied_users
    if not events or users is None or not histories.ordered:
        return ""
    whole = f"; {users.sum()} users have one time for all of theirs and so no order" if users.any() else ""
    return (
        f"; {events} of {len(histories.items)} events have the time of another of their user, in a drawn order{whole}"
    )
