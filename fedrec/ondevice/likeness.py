r"""How alike two items are: three measures of their released rows, and the items above a threshold.

| measure | likeness of rows x and y |
|---|---|
| `cosine` | <x, y> / (\|x\| \|y\|) |
| `pearson` | the cosine of x and y, each less the mean of its own entries |
| `euclid` | 1 / (1 + \|x - y\|), so that 1 is equal and larger is nearer |

All are computed in float64 for every item, and equal ones follow a hash of the item's position, as lists do. Rows are
released, so a list of similar items costs no budget. There is none of users: their vectors stay on their devices.
"""

from collections.abc import Callable

import numpy as np

from fedrec.errors import InputError, nearest
from fedrec.ondevice import draws

MEASURES = ("cosine", "pearson", "euclid")
ROWS_AT_ONCE = 8192
"""Items whose rows are held at a time."""


def alike(
    rows: Callable[[np.ndarray], np.ndarray],
    items: int,
    item: int,
    k: int,
    measure: str = "cosine",
    threshold: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the items that are most alike to one.

    Args:
        rows: function from positions (n,) to rows (n, width).
        items: how many items there are. item: the position.
        k: most items.
        measure: see the module. threshold: least likeness; None for none.

    Returns:
        (m,) int64 positions and (m,) float64 likenesses, largest first, m <= k.

    Raises:
        InputError: for an unknown measure, or a threshold that is no number.
    """
    if measure not in MEASURES:
        raise InputError(
            f"similar: no measure '{measure}'; take one of {', '.join(MEASURES)}.{nearest(measure, MEASURES)}"
        )
    if threshold is not None and np.isnan(threshold):
        raise InputError("similar: threshold is not a number; give a likeness, e.g. 0.5")
    own = _prepared(rows(np.array([item])), measure)[0]
    found = np.empty(items)
    for start in range(0, items, ROWS_AT_ONCE):
        part = _prepared(rows(np.arange(start, min(start + ROWS_AT_ONCE, items))), measure)
        if measure == "euclid":
            values = 1 / (1 + np.sqrt(np.square(part - own).sum(1)))
        else:
            sizes = np.sqrt(np.square(part).sum(1) * np.square(own).sum())
            values = (part * own).sum(1) / np.maximum(sizes, 1e-12)
        found[start : start + len(part)] = values
    kept = np.arange(items) != item
    if threshold is not None:
        kept &= found >= threshold
    places = np.flatnonzero(kept)
    order = np.lexsort((draws.tie_order(places), -found[places]))[: max(k, 0)]
    return places[order], found[places[order]]


def _prepared(rows: np.ndarray, measure: str) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide - wide.mean(1, keepdims=True) if measure == "pearson" else wide
