"""The order of events: what the data say of it, and what a report and a split's rule must say where they do not.

Events of one user with equal times (or places) are undecided. Their order is a draw by the ids of user and item and a
public seed (`Histories.oldest_first`), never the order of the lines. A user whose events all have one time has no
order, and a log of such users counts as unordered. Whether a device uses recency follows from its own events alone
(`UserBatch.tied`), so that one user's times change nothing of what the others contribute.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from fedrec.data.cleaning import Counts
from fedrec.data.histories import Histories

_SAID = {"timestamp": "by time", "place": "as in the source"}


def places(events: pl.DataFrame, order: list[str]) -> np.ndarray | None:
    """(events,) int64: a number for each different time and place, rising in their order.

    None where times alone order the events, or nothing does. order: the columns that decide, the first one first.
    """
    if "place" not in order:
        return None
    return events.select(pl.struct(order).rank("dense").cast(pl.Int64))[order[0]].to_numpy()


def known_order(histories: Histories) -> Histories:
    """The same histories, not `ordered` where each user with several events has one time for all of them."""
    tied = histories.tied_users
    nobody = tied is not None and tied.any() and tied[histories.lengths > 1].all()
    return replace(histories, ordered=histories.ordered and not nobody)


def order_counts(histories: Histories, order: list[str]) -> Counts:
    """What a dataset's report says of the order, and of events whose order is undecided."""
    tied = histories.tied_users
    if tied is None:
        return {"order": "unknown"}
    said = ", then ".join(_SAID[name] for name in order)
    counts: Counts = {"order": said if histories.ordered else "unknown: every user has one time for all events"}
    return counts | {"events of equal time": histories.tied_events, "users of one time": int(tied.sum())}


def ties_rule(histories: Histories) -> str:
    """What a split's rule says of undecided events; empty where there are none."""
    events, users = histories.tied_events, histories.tied_users
    if not events or users is None or not histories.ordered:
        return ""
    whole = f"; {users.sum()} users have one time for all of theirs and so no order" if users.any() else ""
    return (
        f"; {events} of {len(histories.items)} events have the time of another of their user, in a drawn order{whole}"
    )
