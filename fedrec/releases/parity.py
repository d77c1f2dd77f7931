"""Expected lists: a device's copy of a model gives the scores that the publisher's copy gave, or it is not used."""

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import ItemIds
from fedrec.ondevice.lists import Wishes, recommend
from fedrec.releases.record import ExpectedList

PLACES = 10
TOLERANCE = 1e-3
"""Largest difference of a score, in units of the largest one of its list; processors round otherwise by far less."""
LEAST = 1e-7
"""Difference that is no difference, for lists of zeros."""


def expected(model: DeviceModel, ids: ItemIds) -> tuple[ExpectedList, ...]:
    """Make the lists of a new person, and of one with the first and the last item.

    Args:
        model: the model.
        ids: of its items.
    """
    rated = model.needs_ratings
    ends = sorted({0, model.n_items - 1})
    return tuple(_made(model, ids, history, 4.0 if rated else None) for history in ([], ends))


def check(model: DeviceModel, ids: ItemIds, lists: tuple[ExpectedList, ...]) -> None:
    """Compare the scores of the listed items.

    Raises:
        InputError: where one differs, or an item is missing.
    """
    for each in lists:
        known = ids.positions([*each.history, *(item for item, _ in each.items)])
        if len(known) != len(each.history) + len(each.items):
            raise InputError("the release lists items that its model does not have; keep the model in use")
        state = model.fit(_history([int(place) for place in known[: len(each.history)]], each.rating))
        made = model.scores(state, known[len(each.history) :])
        wanted = np.array([score for _, score in each.items])
        if len(wanted) and not np.abs(made - wanted).max() <= TOLERANCE * float(np.abs(wanted).max()) + LEAST:
            raise InputError("the model gives other scores here than at its publisher; keep the model in use")


def _made(model: DeviceModel, ids: ItemIds, places: list[int], rating: float | None) -> ExpectedList:
    found = recommend(model, model.fit(_history(places, rating)), Wishes(k=PLACES, seen=True))
    items = tuple((ids.at(each.item), float(each.score)) for each in found)
    return ExpectedList(tuple(map(ids.at, places)), rating, items)


def _history(places: list[int], rating: float | None) -> History:
    items = np.array(places, np.int64)
    return History(items) if rating is None or not places else History(items, np.full(len(places), rating))
