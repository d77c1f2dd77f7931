"""Imbalance: what each device trains on when a few users or a few items have most of the events.

Both ways are functions of one user's own events, of public numbers and of a public seed: they run on the device, who
leaves changes nothing of the others, and the clip afterwards bounds the whole of what is left. So the guarantee is the
same with them as without, and they earn none. Differs from word2vec's subsampling (Mikolov et al. 2013), whose idea the
popularity rule has, in where the popularity comes from: counts of the log itself are private and are refused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from fedrec.data.histories import Histories
from fedrec.data.item_tables import read_catalogue
from fedrec.data.tables import need_columns
from fedrec.draws import uniform
from fedrec.errors import InputError, PrivacyError
from fedrec.settings import Settings

_STREAM = 0x50
COUNTS = ("counts", "log")
"""What asks for popularity counted from the log, which is refused."""
_BLOCK = 1 << 20


class BalanceConfig(Settings):
    """The `[data.balance]` table of a scenario: what a device trains on. What it knows when it ranks stays whole."""

    most_events: int | None = Field(default=None, ge=1)
    """By activity: a device trains on its newest events only, at most so many."""
    popularity: Path | None = None
    """By popularity: a file with `item_id,popularity`, public or privately released; never counts of this very log."""
    exponent: float = Field(default=0.5, gt=0, le=1)
    """An event stays with probability (median popularity / popularity of its item) to this power, at most 1."""


@dataclass(frozen=True)
class Balance:
    """most_events: at most so many a user, or None. keep: (items,) float64, the probability that an event of the item
    stays; None: all stay."""

    most_events: int | None = None
    keep: np.ndarray | None = None

    def __call__(self, train: Histories, seed: int) -> Histories:
        """What is left of `train`; users stay, perhaps empty. The same for the same seed."""
        if self.keep is not None:
            train = train.keep(_draws(train, seed) < self.keep[train.items])
        if self.most_events is not None:
            train = train.keep(train.positions_from_end() < self.most_events)
        return train

    @property
    def rule(self) -> str:
        """What it does, for the rule of a split; empty for nothing."""
        parts = ["fewer events of popular items"] * (self.keep is not None)
        if self.most_events is not None:
            parts.append(f"at most {self.most_events} events a user")
        return f"; trained on {', '.join(parts)}" if parts else ""


def balance(config: BalanceConfig, ids: tuple[str, ...]) -> Balance:
    """The balance for the catalogue `ids`. An item that the file lacks is as popular as the median.

    Raises:
        PrivacyError: where the popularity would come from the log.
        InputError: where the file cannot be used.
    """
    if config.popularity is None:
        return Balance(config.most_events)
    if str(config.popularity) in COUNTS:
        raise PrivacyError(
            "data.balance.popularity = 'counts': counts of the log are private, and no noise covers them; give a file "
            "of public or privately released popularity (item_id,popularity)"
        )
    table = read_catalogue(config.popularity)
    need_columns(table, config.popularity, "popularity")
    known = table["popularity"]
    if not known.dtype.is_numeric() or known.is_null().any() or not (known > 0).all() or not known.is_finite().all():
        raise InputError(
            f"{config.popularity}: 'popularity' must be a number above 0 in every row; mend or drop the rest"
        )
    median = float(np.median(known.to_numpy()))
    by_id = dict(zip(map(str, table["item"].to_list()), known.to_list(), strict=True))
    popularity = np.array([by_id.get(name, median) for name in ids], dtype=np.float64)
    if not by_id.keys() & set(ids):
        raise InputError(f"{config.popularity}: names no item of the catalogue; its item_id must be the log's")
    return Balance(config.most_events, np.minimum(1.0, (median / popularity) ** config.exponent))


def _draws(train: Histories, seed: int) -> np.ndarray:
    """One uniform draw an event, (events,) float64, by user, item and seed alone."""
    parts = (uniform(part, _STREAM, 1)[:, 0].numpy() for part in train.event_keys(seed).split(_BLOCK))
    return np.concatenate([np.empty(0), *parts])
