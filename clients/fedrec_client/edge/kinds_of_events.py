"""How the events of a store become the input of a model. This is the one place with the rule.

| event | a model of events | a model of ratings |
|---|---|---|
| `view`, `like` | the item is in the history | does not count |
| `rating`, weight: the rating | in the history; below `min_rating` a dislike | in the history with its rating |
| `dislike` | the item is never listed, and not in the history | the same |
| another kind | does not count | does not count |

- An item counts once, at its first event, as in training. Of several likes, dislikes and ratings the last one decides,
  and its rating; a view changes no opinion.
- Events are in the order of their times. One without a time counts as right after the event recorded before it.
- The weight of other events than ratings is kept and does not count, since no released model learns from it.
- An item that the model does not have stays in the store, and counts when a later model has it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np

from fedrec.ondevice.history import History
from fedrec_client.store.event import Event, Recorded

KINDS = ("view", "like", "rating", "dislike")
"""Kinds of events that count."""


@dataclass(frozen=True)
class Past:
    """What a model gets of a person's events.

    Attributes:
        history: its input.
        seen: (n,) int64, all items with an event that is no dislike, which a list leaves out.
    """

    history: History
    seen: np.ndarray


def in_order(recorded: Iterable[Recorded]) -> list[Event]:
    """Return the events by time; one without a time comes right after the event recorded before it."""
    moment, found, ordered = -math.inf, [], True
    for each in sorted(recorded, key=attrgetter("number")):
        event = each.event
        if event.time is not None:
            ordered = ordered and event.time >= moment
            moment = event.time
        found.append((moment, event))
    if not ordered:
        found.sort(key=itemgetter(0))  # stable: of one time in the order of their numbers
    return [event for _, event in found]


def past_of(
    recorded: Iterable[Recorded], find: Callable[[str], int | None], *, rated: bool, min_rating: float | None
) -> Past:
    """Make a model's input of a store's events.

    Args:
        recorded: the events.
        find: from an item's id to its position in the model; None where the model has no such item.
        rated: True for a model of ratings.
        min_rating: least rating of an item that a model of events learns from; None for any.
    """
    seen: dict[int, None] = {}
    low: dict[int, bool] = {}
    ratings: dict[int, float] = {}
    for event in in_order(recorded):
        kind = event.kind
        place = find(event.item) if kind in KINDS else None
        if place is None:
            continue
        if kind == "dislike":
            low[place] = True
            continue
        seen.setdefault(place)
        if kind == "like":
            low[place] = False
        elif kind == "rating":
            ratings[place] = event.weight
            low[place] = not rated and min_rating is not None and event.weight < min_rating
    liked = [place for place in seen if not low.get(place) and (place in ratings or not rated)]
    history = History(
        items=np.array(liked, np.int64),
        ratings=np.array([ratings[place] for place in liked], np.float32) if rated else None,
        disliked=np.array([place for place, bad in low.items() if bad], np.int64),
    )
    return Past(history, np.array(list(seen), np.int64))


def extends(longer: History, shorter: History) -> bool:
    """Whether `longer` is `shorter` with more events at its end, and nothing else differs."""
    many = len(shorter)
    if not np.array_equal(longer.disliked, shorter.disliked) or not np.array_equal(longer.items[:many], shorter.items):
        return False
    if longer.ratings is None or shorter.ratings is None:
        return longer.ratings is shorter.ratings
    return np.array_equal(longer.ratings[:many], shorter.ratings, equal_nan=True)
