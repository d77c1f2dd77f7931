"""The device's side of `popularity`: 1 / sqrt(n) for each of the n distinct items, or 1 with `counts`."""

from typing import ClassVar

import numpy as np

from fedrec.ondevice.history import History
from fedrec.ondevice.training.base import DeviceQuery, Part, Shared, Training
from fedrec.privacy.fixed_point import Lattice

UNIT = 1.0
"""Clip of unit-norm histories (`fedrec.kernels.popularity.popularity_query`)."""


class SparsePart(Part):
    """Values at some positions of a sum of one dimension.

    Args:
        places: (n,) int64, distinct.
        values: (n,) float32.
    """

    def __init__(self, places: np.ndarray, values: np.ndarray) -> None:
        self.places, self.values = places, values.astype(np.float64)

    def norm(self) -> float:
        squares = np.cumsum(self.values**2)  # one after the other, as a sum over a batch's events
        return float(np.sqrt(squares[-1])) if len(squares) else 0.0

    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        total[self.places] += np.trunc(weight * self.values / lattice.step).astype(np.int64)


class PopularityTraining(Training):
    """One round, one sum of shape (items,)."""

    algorithm: ClassVar[str] = "popularity"

    @property
    def rounds(self) -> int:
        return 1

    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        clip = float(self.settings["clip_norm"]) if self.settings["counts"] else UNIT
        return (DeviceQuery("popularity", (self.items,), clip),)

    def parts(self, shared: Shared, history: History, round_index: int) -> dict[str, Part]:
        return {"popularity": popularity_part(history, counts=bool(self.settings["counts"]))}


def popularity_part(history: History, *, counts: bool = False) -> SparsePart:
    """Return x / sqrt(n) for the n distinct items of a history; with `counts`, x."""
    places = np.unique(history.items)
    value = np.float32(1) if counts else np.float32(1) / np.sqrt(np.float32(max(1, len(places))))
    return SparsePart(places, np.full(len(places), value, np.float32))
