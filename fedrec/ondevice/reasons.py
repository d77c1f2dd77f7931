"""Reasons for an item on a device's list: feature groups and past items, as in `fedrec.recommend.reasons`; and items
that are alike."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.history import State

NEWEST = 200
"""Most past items, newest first, that are left out one at a time. Each costs a fit of the whole history."""
ROWS_AT_ONCE = 8192
T = TypeVar("T")


def groups(model: DeviceModel, state: State, item: int, most: int = 2) -> list[tuple[str, float]]:
    """The groups of features that raised an item's score most, with the rise; none for a model without features."""
    if not len(state.history):
        return []
    found = model.explain(state, np.array([item]))
    return _largest(list(found), [float(value[0]) for value in found.values()], most)


def past(model: DeviceModel, state: State, item: int, most: int = 2, newest: int = NEWEST) -> list[tuple[int, float]]:
    """The past items without which the item's score would fall most, with the fall; exact: the model is fitted again
    without each of them, of at most the `newest` ones."""
    history = list(dict.fromkeys(reversed(state.history.items.tolist())))[:newest]
    one = np.array([item])
    whole = float(model.exact(state, one)[0])
    falls = [whole - float(model.exact(model.fit(state.history.without(gone)), one)[0]) for gone in history]
    return _largest(history, falls, most)


def similar(
    model: DeviceModel, item: int, k: int = 10, rows: Callable[[np.ndarray], np.ndarray | None] | None = None
) -> list[tuple[int, float]]:
    """The items that are most alike to one, with the cosine of their rows.

    Args:
        model: the model on the device.
        item: a position.
        k: how many.
        rows: other rows than the model's own, e.g. `PublicItems.rows`.

    Raises:
        InputError: for an unknown item, or when nothing says how alike items are.
    """
    if not 0 <= item < model.n_items:
        raise InputError(f"similar: item {item} is outside 0..{model.n_items - 1}")
    source = model.item_rows if rows is None else rows
    own = source(np.array([item]))
    if own is None:
        raise InputError(f"similar: '{model.called}' holds no rows of items; use a model that learns items")
    found = np.empty(model.n_items)
    for start in range(0, model.n_items, ROWS_AT_ONCE):
        part = source(np.arange(start, min(start + ROWS_AT_ONCE, model.n_items)))
        assert part is not None
        wide = part.astype(np.float64)
        sizes = np.sqrt(np.square(wide).sum(1)) * np.sqrt(np.square(own.astype(np.float64)).sum())
        found[start : start + len(part)] = (wide @ own[0].astype(np.float64)) / np.maximum(sizes, 1e-8)
    found[item] = -np.inf
    best = np.argsort(-found, kind="stable")[: max(0, min(k, model.n_items - 1))]
    return [(int(place), float(found[place])) for place in best]


def _largest(names: Sequence[T], falls: Sequence[float], most: int) -> list[tuple[T, float]]:
    order = np.argsort(-np.array(falls), kind="stable")[:most].tolist()
    return [(names[place], falls[place]) for place in order if falls[place] > 0]
