"""The kernels of a released kernel model on a device: rows of items, and products with a user's mixed profiles.

A product with every item is taken in float32 with a bound on its error, one with a few items in float64.
"""

from abc import ABC, abstractmethod

import numpy as np

from fedrec.ondevice.exact import lengths

UNIT = 2.0**-24
CHUNK = 4096


class DeviceMap(ABC):
    """One kernel in factored form, `width` numbers an item."""

    width: int
    signs: np.ndarray | None = None
    """(width,) of +1 and -1 for an indefinite kernel."""

    @abstractmethod
    def add_row(self, profile: np.ndarray, item: int) -> None:
        """Add an item's row to each row of `profile` (R, width) float64, in place; signs are left out."""

    @abstractmethod
    def rows(self, items: np.ndarray) -> np.ndarray:
        """Dense rows of `items` (n,), (n, width) float64."""

    @abstractmethod
    def add_products(self, mixed: np.ndarray, weights: np.ndarray, total: np.ndarray, error: np.ndarray) -> None:
        """Add approximate products of all items with `mixed` (width, C) float64 to `total` (items, C) float64, and the
        bounds of their errors, weighed by `weights` (C,) and summed, to `error` (items,)."""

    @abstractmethod
    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The sum of all rows by `weights` (items,), signs included, (width,) float64; zeros for some items only."""

    def against(self, vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Products of `items` (n,) with `vectors` (width, C), (n, C) float64."""
        found: np.ndarray = self.rows(items) @ vectors
        return found

    def between(self, older: int, newer: int, mean: np.ndarray) -> float:
        """The kernel's value of two items, less that of the mean profile (width,) with `newer`."""
        left = np.zeros((1, self.width))
        self.add_row(left, older)
        left = left[0] if self.signs is None else left[0] * self.signs
        return float(self.against((left - mean)[:, None], np.array([newer]))[0, 0])

    def shares(self, events: np.ndarray, item: np.ndarray, average: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """How much more each event, less the mean row (width,), speaks for `item` (1,) than for the average item.

        Args:
            events: items of a history, (n,).
            item: one item, (1,).
            average: items whose mean is the average item, (m,).
            mean: the row of the average history, signs included, (width,).

        Returns:
            (n,) float64.
        """
        way = self.rows(item)[0] - self.rows(average).mean(0)
        met = self.against((way if self.signs is None else way * self.signs)[:, None], events)[:, 0]
        found: np.ndarray = met - mean @ way
        return found


class DenseRows(DeviceMap):
    """values (items, width) float32."""

    def __init__(self, values: np.ndarray, signs: np.ndarray | None = None) -> None:
        self.values, self.signs, self.width = values, signs, values.shape[1]
        self._norms = lengths(values) * ((self.width + 16) * UNIT)

    def add_row(self, profile: np.ndarray, item: int) -> None:
        profile += self.values[item]

    def rows(self, items: np.ndarray) -> np.ndarray:
        return self.values[items].astype(np.float64)

    def mean(self, weights: np.ndarray) -> np.ndarray:
        found = np.zeros(self.width)
        for start in range(0, len(self.values), CHUNK):
            found += weights[start : start + CHUNK] @ self.values[start : start + CHUNK]
        return found if self.signs is None else found * self.signs

    def add_products(self, mixed: np.ndarray, weights: np.ndarray, total: np.ndarray, error: np.ndarray) -> None:
        total += self.values @ mixed.astype(np.float32)
        error += self._norms * (np.sqrt(np.square(mixed).sum(0)) @ weights)


class HeadRows(DeviceMap):
    """Rows of some items only, `head` (n,); the others match nothing."""

    def __init__(self, head: np.ndarray, items: int, values: np.ndarray, signs: np.ndarray) -> None:
        self.inner, self.head = DenseRows(values), head
        self.signs, self.width = signs, values.shape[1]
        self.place = np.full(items, -1, np.int64)
        self.place[head] = np.arange(len(head))

    def add_row(self, profile: np.ndarray, item: int) -> None:
        if self.place[item] >= 0:
            self.inner.add_row(profile, int(self.place[item]))

    def rows(self, items: np.ndarray) -> np.ndarray:
        place = self.place[items]
        return np.where((place >= 0)[:, None], self.inner.rows(place.clip(min=0)), 0.0)

    def mean(self, weights: np.ndarray) -> np.ndarray:
        return np.zeros(self.width)

    def add_products(self, mixed: np.ndarray, weights: np.ndarray, total: np.ndarray, error: np.ndarray) -> None:
        part, off = np.zeros((len(self.head), mixed.shape[1])), np.zeros(len(self.head))
        self.inner.add_products(mixed, weights, part, off)
        total[self.head] += part
        error[self.head] += off


class SparseRows(DeviceMap):
    """columns (items, m) and values (items, m), padded with value 0."""

    def __init__(self, columns: np.ndarray, values: np.ndarray, width: int) -> None:
        self.columns, self.values, self.width = columns.astype(np.int64), values, width

    def add_row(self, profile: np.ndarray, item: int) -> None:
        values, columns = self.values[item], self.columns[item]
        for column, value in zip(columns[values != 0].tolist(), values[values != 0].tolist(), strict=True):
            profile[:, column] += value

    def rows(self, items: np.ndarray) -> np.ndarray:
        dense = np.zeros((len(items), self.width))
        np.add.at(dense, (np.arange(len(items))[:, None], self.columns[items]), self.values[items])
        return dense

    def mean(self, weights: np.ndarray) -> np.ndarray:
        weighed = weights[:, None] * self.values
        return np.bincount(self.columns.ravel(), weighed.ravel(), self.width).astype(np.float64)

    def against(self, vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
        return self._products(vectors, self.columns[items], self.values[items])

    def add_products(self, mixed: np.ndarray, weights: np.ndarray, total: np.ndarray, error: np.ndarray) -> None:
        total += self._products(mixed, self.columns, self.values)

    @staticmethod
    def _products(vectors: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        found = np.zeros((len(columns), vectors.shape[1]))
        for slot in range(columns.shape[1]):
            found += vectors[columns[:, slot]] * values[:, slot, None]
        return found


class NeighbourRows(DeviceMap):
    """A table of neighbours: row i holds what item i of a history says of others, in compressed form.

    The profile of a history is then its score of every item, so a product with an item reads one number.
    """

    def __init__(self, starts: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        self.starts, self.columns, self.values, self.width = starts, columns, values, len(starts) - 1

    def add_row(self, profile: np.ndarray, item: int) -> None:
        part = slice(int(self.starts[item]), int(self.starts[item + 1]))
        profile[:, self.columns[part]] += self.values[part]

    def rows(self, items: np.ndarray) -> np.ndarray:
        dense = np.zeros((len(items), self.width))
        for row, item in zip(dense[:, None], items.tolist(), strict=True):
            self.add_row(row, item)
        return dense

    def mean(self, weights: np.ndarray) -> np.ndarray:
        return np.zeros(self.width)

    def against(self, vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
        return vectors[items]

    def add_products(self, mixed: np.ndarray, weights: np.ndarray, total: np.ndarray, error: np.ndarray) -> None:
        total += mixed

    def shares(self, events: np.ndarray, item: np.ndarray, average: np.ndarray, mean: np.ndarray) -> np.ndarray:
        rows = self.rows(events) - mean
        return rows[:, item[0]] - rows[:, average].mean(1)


def device_map(tensors: dict[str, np.ndarray]) -> DeviceMap:
    """The kernel of released tensors, as `fedrec.kernels.feature_map.restore_map`."""
    if "neighbours" in tensors:
        return NeighbourRows(tensors["starts"], tensors["neighbours"], tensors["values"])
    if "columns" in tensors:
        return SparseRows(tensors["columns"], tensors["values"], int(tensors["width"][0]))
    if "head" in tensors:
        return HeadRows(tensors["head"], int(tensors["items"][0]), tensors["values"], tensors["signs"])
    return DenseRows(tensors["values"], tensors.get("signs"))
