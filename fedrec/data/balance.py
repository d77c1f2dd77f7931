"""Balanced training data, for logs in which a few users or a few items have most of the events.

Both rules depend on one user's own events, on public numbers and on a public seed. They run on the device, and one
user's data do not change what another user trains on. The clip afterwards bounds the whole contribution. So the
guarantee is the same with and without them.

The popularity rule follows the subsampling of word2vec (Mikolov et al. 2013). It differs in the source of the
popularity: counts of the log itself are private and are refused.
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
"""Values that ask for popularity or means counted from the log, which are refused."""
_BLOCK = 1 << 20


class BalanceConfig(Settings):
    """The `[data.balance]` table of a scenario: the events that a device trains on. It ranks from its whole history."""

    most_events: int | None = Field(default=None, ge=1)
    """Most events that a device trains on, the newest ones."""
    popularity: Path | None = None
    """A file with `item_id,popularity`, public or privately released; never counts of the log itself."""
    exponent: float = Field(default=0.5, gt=0, le=1)
    """An event stays with probability (median popularity / popularity of its item) to this power, at most 1."""


@dataclass(frozen=True)
class Balance:
    """The rules of a run, applied to the training events.

    Attributes:
        most_events: most events a user, or None for no limit.
        keep: (items,) float64, probability that an event of the item stays; None keeps all.
    """

    most_events: int | None = None
    keep: np.ndarray | None = None

    def __call__(self, train: Histories, seed: int) -> Histories:
        """Return the events of `train` that stay, the same for the same seed. All users stay, perhaps empty."""
        if self.keep is not None:
            train = train.keep(_draws(train, seed) < self.keep[train.items])
        if self.most_events is not None:
            train = train.keep(train.positions_from_end() < self.most_events)
        return train

    @property
    def rule(self) -> str:
        """Describe the rules for the rule of a split; empty if none applies."""
        parts = ["fewer events of popular items"] * (self.keep is not None)
        if self.most_events is not None:
            parts.append(f"at most {self.most_events} events a user")
        return f"; trained on {', '.join(parts)}" if parts else ""


def balance(config: BalanceConfig, ids: tuple[str, ...]) -> Balance:
    """Return the rules of `config` for the catalogue `ids`. An item that the file lacks has the median popularity.

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
    """Draw one uniform number an event, (events,) float64, from user, item and seed alone."""
    parts = (uniform(part, _STREAM, 1)[:, 0].numpy() for part in train.event_keys(seed).split(_BLOCK))
    return np.concatenate([np.empty(0), *parts])
