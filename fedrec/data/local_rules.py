"""Local rules: a device cleans the events that it trains on, by its own events, public numbers and a public seed.

| `[data.cleaning]` | what changes | needs |
|---|---|---|
| `burst`, `burst_seconds` | outliers: a stretch of time with too many events is dropped | times |
| `scale` | outliers: events rated outside of the public scale are dropped | ratings |
| `impute` | a missing rating becomes the user's own mean, or a public or released mean of the item | ratings |
| `normalise` | ratings less the user's own mean, divided by the user's own deviation, on the public scale | ratings |
| `augment`, `keep` | the device trains on a drawn part of its history | |

The privacy argument is one for all. The rules are a function from one user's events to one user's events: neighbouring
data differ in one whole user before and after them. They run before the clip, which bounds the whole contribution of
the events that are left. So user-level epsilon is the same with and without them, and no sum has a larger sensitivity.
Numbers that would need other users' events are refused: means of items come from a file that is public or was released
with a charge, and the scale is given.

The rules change training alone. A device ranks, and predicts its own ratings, from its whole history.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from fedrec.data.balance import COUNTS
from fedrec.data.histories import Histories
from fedrec.data.item_tables import read_catalogue
from fedrec.data.tables import need_columns
from fedrec.draws import keys, uniform
from fedrec.errors import InputError, PrivacyError
from fedrec.settings import Settings

_STREAM = 0xC1
_PRIOR = 1.0  # ratings of the scale's deviation that a user's own deviation counts in


class CleaningConfig(Settings):
    """The `[data.cleaning]` table of a scenario: what a device does to the events that it trains on."""

    burst: int | None = Field(default=None, ge=1)
    """Outliers: drop the events of a stretch of `burst_seconds` in which a user has more events than this."""
    burst_seconds: float = Field(default=1.0, ge=0)
    """Length of that stretch of time."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating of the public scale, e.g. [1, 5]; training drops events rated outside of it."""
    impute: Literal["none", "own-mean", "item-means"] = "none"
    """A missing rating becomes the mean of the user's own ratings, or the item's mean in the file `item_means`."""
    item_means: Path | None = None
    """A file with `item_id,rating`, public or privately released; never means of the log itself."""
    normalise: Literal["none", "centre", "standard"] = "none"
    """"centre": a rating becomes the middle of `scale` plus its distance from the user's own mean. "standard": that
    distance is also divided by the user's own deviation and multiplied by a fourth of the scale."""
    augment: Literal["none", "crop", "mask"] = "none"
    """"crop": train on one drawn stretch of a history. "mask": train on events drawn one by one."""
    keep: float = Field(default=0.8, gt=0, lt=1)
    """The part of a history that `augment` keeps."""

    @model_validator(mode="after")
    def _fits(self) -> "CleaningConfig":
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale = [{self.scale[0]:g}, {self.scale[1]:g}]: give the lowest rating first")
        if self.normalise != "none" and self.scale is None:
            raise ValueError("normalise needs scale = [lowest, highest]: a range taken from the log would be private")
        if (self.impute == "item-means") != (self.item_means is not None):
            raise ValueError("impute = 'item-means' and the file item_means go together; give both or neither")
        return self


@dataclass(frozen=True)
class LocalRules:
    """The rules of a run.

    Attributes:
        config: the table.
        means: (items,) float64 public or released mean rating, NaN where the file has none; None without a file.
    """

    config: CleaningConfig = CleaningConfig()
    means: np.ndarray | None = None

    def __call__(self, train: Histories, seed: int) -> Histories:
        """Return the cleaned events, the same for the same seed. All users stay, perhaps empty.

        Args:
            train: events oldest first within a user. Rules on times or ratings leave a log without them as it is.
            seed: public seed of `augment`.
        """
        for rule in (_without_bursts, _on_the_scale, self._imputed, _normalised):
            train = rule(train, self.config)
        if self.config.augment != "none":
            train = train.keep(_AUGMENT[self.config.augment](train, seed, self.config.keep))
        return train

    @property
    def rule(self) -> str:
        """Describe the rules for the rule of a split; empty if none applies."""
        return f"; cleaned on each device for training: {', '.join(_parts(self.config))}" if _parts(self.config) else ""

    def check(self, histories: Histories, source: str) -> None:
        """Refuse rules for columns that the log does not have.

        Raises: InputError.
        """
        config = self.config
        if config.burst is not None and histories.times is None:
            raise InputError(f"{source}: data.cleaning.burst needs times and there are none; leave it out")
        if histories.ratings is None and (config.scale or config.impute != "none"):
            raise InputError(
                f"{source}: data.cleaning.scale and impute need ratings and there are none; leave them out"
            )

    def counts(self, histories: Histories) -> dict[str, int]:
        """Count what the rules find in all events, for a simulation's report; true figures, not private ones."""
        config, found = self.config, {}
        if config.burst is not None:
            found["events in bursts"] = int(_in_bursts(histories, config.burst, config.burst_seconds).sum())
        if config.scale is not None:
            found["rated outside of the scale"] = int(_outside(histories, config.scale).sum())
        if config.impute != "none" and histories.ratings is not None:
            found["ratings to impute"] = int(np.isnan(histories.ratings).sum())
        return found

    def _imputed(self, train: Histories, config: CleaningConfig) -> Histories:
        if train.ratings is None or config.impute == "none":
            return train
        ratings = train.ratings.astype(np.float64)
        filler = _own(train, ratings)[0][train.owners] if self.means is None else self.means[train.items]
        return replace(train, ratings=np.where(np.isnan(ratings), filler, ratings).astype(np.float32))


def local_rules(config: CleaningConfig | None, ids: tuple[str, ...]) -> LocalRules:
    """Return the rules of `config` for the catalogue `ids`; None for no rules.

    Raises:
        PrivacyError: where means would come from the log.
        InputError: where the file cannot be used.
    """
    if config is None or config.item_means is None:
        return LocalRules(config or CleaningConfig())
    if str(config.item_means) in COUNTS:
        raise PrivacyError(
            f"data.cleaning.item_means = '{config.item_means}': means of the log are private, and no noise covers "
            "them; give a file of public or privately released means (item_id,rating)"
        )
    table = read_catalogue(config.item_means)
    need_columns(table, config.item_means, "rating")
    known = table["rating"]
    if not known.dtype.is_numeric() or known.is_null().any() or not known.is_finite().all():
        raise InputError(f"{config.item_means}: 'rating' must be a number in every row; correct or drop the rest")
    by_id = dict(zip(map(str, table["item"].to_list()), known.to_list(), strict=True))
    if not by_id.keys() & set(ids):
        raise InputError(f"{config.item_means}: names no item of the catalogue; its item_id must be the log's")
    return LocalRules(config, np.array([by_id.get(name, np.nan) for name in ids], dtype=np.float64))


def _parts(config: CleaningConfig) -> list[str]:
    parts = []
    if config.burst is not None:
        parts.append(f"no stretch of {config.burst_seconds:g} s with more than {config.burst} events")
    if config.scale is not None:
        parts.append(f"ratings within {config.scale[0]:g} to {config.scale[1]:g}")
    if config.impute != "none":
        filler = "the user's own mean" if config.impute == "own-mean" else "given means of items"
        parts.append(f"missing ratings from {filler}")
    if config.normalise != "none":
        by = " and deviation" if config.normalise == "standard" else ""
        parts.append(f"ratings relative to the user's own mean{by}")
    if config.augment != "none":
        parts.append(f"{'a stretch' if config.augment == 'crop' else 'events'} drawn, {config.keep:g} of a history")
    return parts


def _without_bursts(train: Histories, config: CleaningConfig) -> Histories:
    return train if config.burst is None else train.keep(~_in_bursts(train, config.burst, config.burst_seconds))


def _in_bursts(train: Histories, most: int, seconds: float) -> np.ndarray:
    """Return whether each event is in a stretch of `seconds` with more than `most` events of its user, (events,)."""
    times, events = train.times, len(train.items)
    if times is None or events <= most:
        return np.zeros(events, dtype=bool)
    by_time = np.lexsort((times, train.owners))
    owners, times = train.owners[by_time], times[by_time]
    first = np.flatnonzero((owners[most:] == owners[:-most]) & (times[most:] - times[:-most] <= seconds))
    edges = np.zeros(events + 1, dtype=np.int64)  # each start covers its event and the next `most`
    np.add.at(edges, first, 1)
    np.add.at(edges, first + most + 1, -1)
    found = np.empty(events, dtype=bool)
    found[by_time] = edges.cumsum()[:-1] > 0
    return found


def _on_the_scale(train: Histories, config: CleaningConfig) -> Histories:
    return train if config.scale is None else train.keep(~_outside(train, config.scale))


def _outside(train: Histories, scale: tuple[float, float]) -> np.ndarray:
    """Return whether each event has a rating outside of `scale`, (events,) bool; an unknown rating is inside."""
    if train.ratings is None:
        return np.zeros(len(train.items), dtype=bool)
    outside: np.ndarray = (train.ratings < scale[0]) | (train.ratings > scale[1])
    return outside


def _normalised(train: Histories, config: CleaningConfig) -> Histories:
    if train.ratings is None or config.normalise == "none" or config.scale is None:
        return train
    low, high = config.scale
    ratings, spread = train.ratings.astype(np.float64), (high - low) / 4
    mean, squares, count = _own(train, ratings)
    distance = ratings - mean[train.owners]
    if config.normalise == "standard":
        deviation = np.sqrt((squares + _PRIOR * spread**2) / (count + _PRIOR))
        distance = distance / deviation[train.owners] * spread
    return replace(train, ratings=((low + high) / 2 + distance).astype(np.float32))


def _own(train: Histories, ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each user's mean rating (NaN for none), sum of squared distances from it, and count; (users,) each."""
    known = ~np.isnan(ratings)
    owners, ratings = train.owners[known], ratings[known]
    count = np.bincount(owners, minlength=len(train))
    total = np.bincount(owners, ratings, minlength=len(train))
    mean = np.divide(total, count, out=np.full(len(train), np.nan), where=count > 0)
    return mean, np.bincount(owners, (ratings - mean[owners]) ** 2, minlength=len(train)), count


def _crop(train: Histories, seed: int, keep: float) -> np.ndarray:
    """Draw one stretch of each history by the user's own key: (events,) bool, at least one event of a user."""
    lengths = train.lengths
    users = np.arange(len(train)) if train.identities is None else train.identities
    stays = np.maximum(np.ceil(keep * lengths), lengths > 0).astype(np.int64)
    own = keys(seed, torch.from_numpy(np.ascontiguousarray(users, dtype=np.int64)))
    start = (uniform(own, _STREAM, 1)[:, 0].numpy() * (lengths - stays + 1)).astype(np.int64)
    place = np.arange(len(train.items)) - np.repeat(train.offsets[:-1], lengths)
    begin, end = (np.repeat(each, lengths) for each in (start, start + stays))
    drawn: np.ndarray = (place >= begin) & (place < end)
    return drawn


def _mask(train: Histories, seed: int, keep: float) -> np.ndarray:
    """Draw events one by one by the keys of user and item: (events,) bool."""
    drawn: np.ndarray = uniform(train.event_keys(seed), _STREAM, 1)[:, 0].numpy() < keep
    return drawn


_AUGMENT: dict[str, Callable[[Histories, int, float], np.ndarray]] = {"crop": _crop, "mask": _mask}
