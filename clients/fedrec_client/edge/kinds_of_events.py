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
- The time of an item is that of its first event; NaN where the event came without one.
- An item that the model does not have stays in the store, and counts when a later model has it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
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


class Reading:
    """The rule, applied to events one after another.

    Args:
        find: from an item's id to its position in the model; None where the model has no such item.
        rated: True for a model of ratings.
        min_rating: least rating of an item that a model of events learns from; None for any.
        stars: True for a model of events that takes ratings, where there are some.
    """

    def __init__(
        self, find: Callable[[str], int | None], *, rated: bool, min_rating: float | None, stars: bool = False
    ) -> None:
        self._find, self._rated, self._least, self._stars = find, rated, min_rating, stars
        self._restart()

    def _restart(self) -> None:
        self._read: list[Recorded] = []
        self._moment = self._latest = -math.inf  # of the event recorded last, and of all
        self._seen: dict[int, float] = {}  # item -> time of its first event
        self._low: dict[int, bool] = {}
        self._ratings: dict[int, float] = {}

    def read(self, recorded: Sequence[Recorded]) -> Past:
        """Make a model's input of a store's events. New ones at the end are added; else all are read anew.

        Args:
            recorded: the events, in the order of their recording.
        """
        known = len(self._read)
        if not (self._read == recorded[:known] and self._follow(recorded[known:])):
            self._restart()
            moments, moment = [], -math.inf
            for each in recorded:
                moment = moment if each.event.time is None else each.event.time
                moments.append(moment)
            self._moment, self._latest = moment, max(moments, default=-math.inf)
            for event in in_order(recorded):
                self._add(event)
        self._read = list(recorded)
        return self._past()

    def _follow(self, new: Sequence[Recorded]) -> bool:
        """Add new events, if each is later than all before it."""
        moment, latest = self._moment, self._latest
        for each in new:
            moment = moment if each.event.time is None else each.event.time
            if moment < latest:
                return False
            latest = moment
        for each in new:
            self._add(each.event)
        self._moment, self._latest = moment, latest
        return True

    def _add(self, event: Event) -> None:
        kind = event.kind
        place = self._find(event.item) if kind in KINDS else None
        if place is None:
            return
        if kind == "dislike":
            self._low[place] = True
            return
        self._seen.setdefault(place, math.nan if event.time is None else event.time)
        if kind == "like":
            self._low[place] = False
        elif kind == "rating":
            self._ratings[place] = event.weight
            self._low[place] = not self._rated and self._least is not None and event.weight < self._least

    def _past(self) -> Past:
        low, ratings, rated = self._low, self._ratings, self._rated
        stars = rated or self._stars
        liked = [place for place in self._seen if not low.get(place) and (place in ratings or not rated)]
        history = History(
            items=np.array(liked, np.int64),
            ratings=np.array([ratings.get(place, math.nan) for place in liked], np.float32) if stars else None,
            disliked=np.array([place for place, bad in low.items() if bad], np.int64),
            times=np.array([self._seen[place] for place in liked], np.float64),
        )
        return Past(history, np.array(list(self._seen), np.int64))


def extends(longer: History, shorter: History) -> bool:
    """Whether `longer` is `shorter` with more events at its end, and nothing else differs."""
    many = len(shorter)
    if not np.array_equal(longer.disliked, shorter.disliked) or not np.array_equal(longer.items[:many], shorter.items):
        return False
    if longer.attributes != shorter.attributes or not _begins(longer.times, shorter.times):
        return False
    return _begins(longer.ratings, shorter.ratings)


def _begins(longer: np.ndarray | None, shorter: np.ndarray | None) -> bool:
    """Whether `longer` begins with `shorter`, or both are None."""
    if longer is None or shorter is None:
        return longer is shorter
    return np.array_equal(longer[: len(shorter)], shorter, equal_nan=True)
