"""Cleaning of one person's events on a device, with numpy; see `fedrec.data.local_rules` for the rules.

Each rule is a function of this person's events alone, so it changes no guarantee. A drawn part of the history
(`augment`) comes from a key that the device draws itself, where a simulation takes the public seed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.history import History

STREAM, PRIOR = 0xC1, 1.0  # as in `fedrec.data.local_rules`
_CHOICES = {
    "impute": ("none", "own-mean"),
    "normalise": ("none", "centre", "standard"),
    "augment": ("none", "crop", "mask"),
}


@dataclass(frozen=True)
class Cleaning:
    """The rules, as `fedrec.data.local_rules.CleaningConfig`; without any, a history stays as it is."""

    burst: int | None = None
    burst_seconds: float = 1.0
    scale: tuple[float, float] | None = None
    impute: str = "none"
    normalise: str = "none"
    augment: str = "none"
    keep: float = 0.8

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Read the table of a run's description.

        Raises: ValueError for a rule that a device does not follow, such as a file of means.
        """
        values = {name: value for name, value in given.items() if name != "item_means" or value is not None}
        if set(values) - {*cls.__dataclass_fields__}:
            raise ValueError("a rule that a device does not follow")
        if any(values.get(name, of[0]) not in of for name, of in _CHOICES.items()):
            raise ValueError("a rule that a device does not follow")
        if values.get("scale") is not None:
            values["scale"] = tuple(map(float, values["scale"]))
        made = cls(**values)
        ends = (0.0, 1.0) if made.scale is None else made.scale
        numbers = (made.burst_seconds, made.keep, *ends)
        if not all(type(each) in (int, float) and math.isfinite(each) for each in numbers):
            raise ValueError("a rule with a number out of range")
        whole = made.burst is None or (type(made.burst) is int and made.burst >= 1)
        if not whole or made.burst_seconds < 0 or not 0 < made.keep < 1 or len(ends) != 2 or not ends[0] < ends[1]:
            raise ValueError("a rule with a number out of range")
        if made.normalise != "none" and made.scale is None:
            raise ValueError("normalise needs the public scale")
        return made

    def __call__(self, history: History, key: int) -> History:
        """Return the cleaned history.

        Args:
            history: events oldest first. Rules on times or ratings leave a history without them as it is.
            key: of the draws of `augment`.
        """
        for rule in (self._without_bursts, self._on_the_scale, self._imputed, self._normalised):
            history = rule(history)
        return history if self.augment == "none" else _kept(history, self._drawn(len(history), key))

    def _without_bursts(self, history: History) -> History:
        most, times = self.burst, history.times
        if most is None or times is None or len(history) <= most:
            return history
        order = np.argsort(times, kind="stable")
        within = np.flatnonzero(times[order][most:] - times[order][:-most] <= self.burst_seconds)
        dropped = np.zeros(len(history), bool)
        for start in within:
            dropped[order[start : start + most + 1]] = True
        return _kept(history, ~dropped)

    def _on_the_scale(self, history: History) -> History:
        if self.scale is None or history.ratings is None:
            return history
        return _kept(history, ~((history.ratings < self.scale[0]) | (history.ratings > self.scale[1])))

    def _imputed(self, history: History) -> History:
        if self.impute == "none" or history.ratings is None:
            return history
        ratings = history.ratings.astype(np.float64)
        known = ~np.isnan(ratings)
        if not known.any():
            return history
        return replace(history, ratings=np.where(known, ratings, ratings[known].mean()).astype(np.float32))

    def _normalised(self, history: History) -> History:
        if self.normalise == "none" or self.scale is None or history.ratings is None:
            return history
        low, high = self.scale
        ratings, spread = history.ratings.astype(np.float64), (high - low) / 4
        known = ratings[~np.isnan(ratings)]
        if not len(known):
            return history
        distance = ratings - known.mean()
        if self.normalise == "standard":
            squares = float(((known - known.mean()) ** 2).sum())
            distance *= spread / math.sqrt((squares + PRIOR * spread**2) / (len(known) + PRIOR))
        return replace(history, ratings=((low + high) / 2 + distance).astype(np.float32))

    def _drawn(self, events: int, key: int) -> np.ndarray:
        """Draw which of so many events stay, (events,) bool."""
        own = np.array([key], np.uint64)
        if self.augment == "mask":
            return np.asarray(draws.uniform(own, STREAM, events)[0] < self.keep)
        stays = max(math.ceil(self.keep * events), min(events, 1))
        start = int(draws.uniform(own, STREAM, 1)[0, 0] * (events - stays + 1))
        place = np.arange(events)
        return np.asarray((place >= start) & (place < start + stays))


def _kept(history: History, keep: np.ndarray) -> History:
    """Return the history with only the events for which `keep` (n,) is true."""
    return replace(
        history,
        items=history.items[keep],
        ratings=None if history.ratings is None else history.ratings[keep],
        times=None if history.times is None else history.times[keep],
    )
