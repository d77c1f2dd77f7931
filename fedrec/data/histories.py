"""Histories: who did what, in order, as users x items in compressed rows."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from fedrec.data.users import UserBatch
from fedrec.draws import keys
from fedrec.errors import InputError


@dataclass(frozen=True)
class Histories:
    """Every user's events, oldest first within a row.

    offsets: (users + 1,) int64; the events of user u are `items[offsets[u]:offsets[u + 1]]`.
    items:   (events,) int32, positions in the catalogue.
    n_items: size of the catalogue (given, never derived from the events).
    ratings: (events,) float32 or None. times: (events,) float64 seconds since 1970, to the
    microsecond, or None.
    ordered: False when the source tells no order; then a row's order is arbitrary and must not be used.
    identities: (users,) int64, what each user's local randomness goes by, whoever else is in the log: were it the
    position, one user's leaving would change the draws, and so the contributions, of all that come after. None: the
    positions, where they are given by no log.
    """

    offsets: np.ndarray
    items: np.ndarray
    n_items: int
    ratings: np.ndarray | None = None
    times: np.ndarray | None = None
    ordered: bool = True
    identities: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.offsets) < 1 or self.offsets[0] != 0 or self.offsets[-1] != len(self.items):
            raise InputError("histories: offsets must start at 0 and end at the number of events")
        if len(self.items) and (self.items.min() < 0 or self.items.max() >= self.n_items):
            raise InputError(
                f"histories: item position outside 0..{self.n_items - 1}; the catalogue lacks an item of the log"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Events per user, (users,) int64."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> np.ndarray:
        """The user of each event, (events,) int64."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def row(self, user: int) -> np.ndarray:
        """One user's items, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def keep(self, mask: np.ndarray) -> "Histories":
        """The histories without the events where `mask` (events,) is False; users stay, perhaps empty."""
        counts = np.bincount(self.owners[mask], minlength=len(self))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=self.items[mask],
            ratings=None if self.ratings is None else self.ratings[mask],
            times=None if self.times is None else self.times[mask],
        )

    def positions_from_end(self) -> np.ndarray:
        """(events,) int64: 0 for a user's newest event, 1 for the one before, ..."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))

    def select(self, users: np.ndarray) -> "Histories":
        """The histories of `users` (positions), in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.repeat(self.offsets[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(
            self,
            offsets=offsets,
            items=self.items[take],
            ratings=None if self.ratings is None else self.ratings[take],
            times=None if self.times is None else self.times[take],
            identities=self._identities(users),
        )

    def joined(self, other: "Histories") -> "Histories":
        """What each user did here or in `other` (the same users in the same order): items alone, in no order."""
        owners = np.concatenate([self.owners, other.owners])
        order = owners.argsort(kind="stable")
        return Histories(
            offsets=self.offsets + other.offsets,
            items=np.concatenate([self.items, other.items])[order],
            n_items=self.n_items,
            ordered=False,
            identities=self.identities,
        )

    def permuted(self, order: np.ndarray) -> "Histories":
        """The same rows with events taken in `order` (events,), which must not move any event to another row."""
        return replace(
            self,
            items=self.items[order],
            ratings=None if self.ratings is None else self.ratings[order],
            times=None if self.times is None else self.times[order],
        )

    def random_order(self, seed: int) -> np.ndarray:
        """An order of events, (events,) int64, that shuffles each row by a hash of user, item and seed.

        It does not depend on the order that the events stand in now, so it tells nothing of it.
        """
        pair = torch.from_numpy(self._identities(self.owners) * self.n_items + self.items)
        return np.lexsort((keys(seed, pair).numpy(), self.owners))

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        """The users at positions `users` as tensors on `device`; `seed` makes their local randomness."""
        part = self.select(users)
        return UserBatch(
            items=torch.from_numpy(part.items).to(device).long(),  # half the bytes to carry
            lengths=torch.from_numpy(part.lengths.astype(np.int64)).to(device),
            n_items=self.n_items,
            keys=keys(seed, torch.from_numpy(self._identities(users))).to(device),
            ratings=None if part.ratings is None else torch.from_numpy(part.ratings).to(device),
            ordered=self.ordered,
        )

    def _identities(self, users: np.ndarray) -> np.ndarray:
        known = users if self.identities is None else self.identities[users]
        return np.ascontiguousarray(known, dtype=np.int64)
