"""Items that are alike, by a model's rows on a device. `DeviceModel.attribute` gives the reasons of a score."""

from collections.abc import Callable

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.likeness import alike


def similar(
    model: DeviceModel,
    item: int,
    k: int = 10,
    rows: Callable[[np.ndarray], np.ndarray | None] | None = None,
    *,
    measure: str = "cosine",
    threshold: float | None = None,
) -> list[tuple[int, float]]:
    """The items that are most alike to one, with their likeness.

    Args:
        model: the model on the device.
        item: a position.
        k: how many.
        rows: other rows than the model's own, e.g. `PublicItems.rows`.
        measure: "cosine", "pearson" or "euclid" (`fedrec.ondevice.likeness`).
        threshold: least likeness; None for none.

    Raises:
        InputError: for an unknown item or measure, or when nothing says how alike items are.
    """
    if not 0 <= item < model.n_items:
        raise InputError(f"similar: item {item} is outside 0..{model.n_items - 1}")
    source = model.item_rows if rows is None else rows
    if source(np.array([item])) is None:
        raise InputError(f"similar: '{model.called}' holds no rows of items; use a model that learns items")

    def known(items: np.ndarray) -> np.ndarray:
        found = source(items)
        assert found is not None
        return found

    places, likeness = alike(known, model.n_items, item, k, measure, threshold)
    return list(zip(places.tolist(), likeness.tolist(), strict=True))
