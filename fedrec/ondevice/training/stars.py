"""One person's part of the sum of popularity and ratings, and the kernel of its release; see `fedrec.kernels.stars`."""

import numpy as np

from fedrec.kernels.stars_plan import PLACES, WIDTH, parts
from fedrec.ondevice.feature_maps import DenseRows
from fedrec.ondevice.history import History
from fedrec.ondevice.training.popularity import SparsePart


def rated_part(history: History, scale: tuple[float, float], items: int) -> SparsePart:
    """Return w x for the n distinct items of a history, and behind these w r, r the rating less the person's own mean.

    Args:
        history: with ratings or without. Of several events of an item the first one counts.
        scale: lowest and highest rating of the public scale.
        items: size of the catalogue.
    """
    first = np.sort(np.unique(history.items, return_index=True)[1])
    places, (popular, rated) = history.items[first], parts()
    rest = np.zeros(len(places)) if history.ratings is None else _beyond_own_mean(history.ratings[first], scale)
    many = max(1, len(places))
    norm = max(float(np.sqrt(popular**2 + rated**2 * _sum(rest * rest) / many)), 1.0)
    weight = 1 / (norm * np.sqrt(np.float64(many)))
    values = np.concatenate([np.full(len(places), popular * weight), rated * weight * rest])
    return SparsePart(np.concatenate([places, items + places]), values.astype(np.float32))


def _beyond_own_mean(ratings: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    low, high = scale
    known = ~np.isnan(ratings)
    stars = np.nan_to_num(ratings.astype(np.float64), posinf=high, neginf=low).clip(low, high)
    placed = np.where(known, (stars - (low + high) / 2) / ((high - low) / 2), 0.0)
    found: np.ndarray = np.where(known, placed - _sum(placed) / (known.sum() + 1), 0.0)
    return found


def _sum(values: np.ndarray) -> float:
    """The sum of values (n,), one after the other, as over a batch's events."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def stars_map(stars: np.ndarray) -> DenseRows:
    """Return the kernel of released mean ratings (items,)."""
    rows = np.exp(-(((stars.astype(np.float64)[:, None] - np.linspace(*PLACES)) / WIDTH) ** 2) / 2)
    return DenseRows(rows.astype(np.float32))
