"""Histories: the events of every user in order, as compressed rows (users x items)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedrec.data.people import People
from fedrec.data.users import UserBatch
from fedrec.draws import keys, mix
from fedrec.errors import InputError


@dataclass(frozen=True)
class Histories:
    """Every user's events, oldest first within a row.

    A user's local randomness derives from `identities`, not from positions. With positions, one user who leaves the
    log would change the draws, and so the contributions, of all later users.

    Attributes:
        offsets: (users + 1,) int64; the events of user u are `items[offsets[u]:offsets[u + 1]]`.
        items: (events,) int32, positions in the catalogue.
        n_items: size of the catalogue (given, never derived from the events).
        ratings: (events,) float32, NaN where unknown; or None.
        times: (events,) float64 seconds since 1970, to the microsecond, NaN where unknown; or None.
        places: (events,) int64, the order of a user's events where `times` alone does not give it; or None. Events of
            a user with equal places (without places, equal times) are undecided, and the order between them is drawn.
        ordered: False if no user's order is known. The order of a row is then drawn and must not be used.
        disliked: the same users' dislikes in no order, where training draws negatives from them; or None.
        item_identities: (n_items,) int64, seeds of the items' draws, independent of the rest of the catalogue. None
            takes the positions.
        people: private attributes, a row a user; or None.
        identities: (users,) int64, seeds of the users' local randomness, independent of the rest of the log. None
            takes the positions, for data that come from no log.
    """

    offsets: np.ndarray
    items: np.ndarray
    n_items: int
    ratings: np.ndarray | None = None
    times: np.ndarray | None = None
    ordered: bool = True
    identities: np.ndarray | None = None
    places: np.ndarray | None = None
    item_identities: np.ndarray | None = None
    disliked: "Histories | None" = None
    people: People | None = None

    def __post_init__(self) -> None:
        if len(self.offsets) < 1 or self.offsets[0] != 0 or self.offsets[-1] != len(self.items):
            raise InputError("histories: offsets must start at 0 and end at the number of events")
        if self.people is not None and len(self.people) != len(self):
            raise InputError(f"histories: attributes of {len(self.people)} users for {len(self)}; give a row a user")
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
        """Return one user's items, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def keep(self, mask: np.ndarray) -> "Histories":
        """Return the histories without the events where `mask` (events,) is False. All users stay, perhaps empty."""
        counts = np.bincount(self.owners[mask], minlength=len(self))
        return self._events(mask, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def padded(self) -> np.ndarray:
        """(users, longest) int64: each row's items, then -1."""
        lengths = self.lengths
        rows = np.full((len(self), int(lengths.max(initial=0))), -1, dtype=np.int64)
        rows[np.arange(rows.shape[1]) < lengths[:, None]] = self.items
        return rows

    def positions_from_end(self) -> np.ndarray:
        """(events,) int64: 0 for a user's newest event, 1 for the one before, ..."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))

    def select(self, users: np.ndarray) -> "Histories":
        """Return the histories of `users` (positions), in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.repeat(self.offsets[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
        disliked = None if self.disliked is None else self.disliked.select(users)
        people = None if self.people is None else self.people.take(users)
        chosen = replace(self, people=None)._events(take, offsets)
        return replace(chosen, identities=self._identities(users), disliked=disliked, people=people)

    def joined(self, other: "Histories") -> "Histories":
        """Return each user's items of these histories and of `other` (the same users in the same order), unordered."""
        owners = np.concatenate([self.owners, other.owners])
        order = owners.argsort(kind="stable")
        return Histories(
            offsets=self.offsets + other.offsets,
            items=np.concatenate([self.items, other.items])[order],
            n_items=self.n_items,
            ordered=False,
            identities=self.identities,
            item_identities=self.item_identities,
            people=self.people,
        )

    def permuted(self, order: np.ndarray) -> "Histories":
        """Return the same rows with events in `order` (events,), which must keep each event in its row."""
        return self._events(order, self.offsets)

    def forgotten(self, seed: int) -> "Histories":
        """Return the same rows in a drawn order, without times and places; the attributes stay."""
        drawn = self.permuted(self.random_order(seed))
        return replace(drawn, times=None, places=None, ordered=False)

    def event_keys(self, seed: int) -> Tensor:
        """Return one key an event, (events,) int64, from the identities of its user and item and from `seed` alone."""
        item = self.items if self.item_identities is None else self.item_identities[self.items]
        user = mix(torch.from_numpy(self._identities(self.owners)))
        return keys(seed, user + torch.from_numpy(item.astype(np.int64)))

    def random_order(self, seed: int) -> np.ndarray:
        """Return an order of events, (events,) int64, that shuffles each row by a hash of user, item and seed.

        It does not depend on the present order of the events, on positions or on other users.
        """
        return np.lexsort((self.event_keys(seed).numpy(), self.owners))

    def oldest_first(self, seed: int) -> np.ndarray:
        """Return an order of events, (events,) int64, by user and age, with undecided events in `random_order`."""
        by = () if self.moments is None else (self.moments,)
        return np.lexsort((self.event_keys(seed).numpy(), *by, self.owners))

    @property
    def moments(self) -> np.ndarray | None:
        """Times or places, (events,), that order a user's events; None where nothing does."""
        return self.times if self.places is None else self.places

    @property
    def tied_events(self) -> int:
        """Number of events with the time (or place) of another event of their user."""
        moments = self.moments
        if moments is None or len(moments) < 2:
            return 0
        owners = self.owners
        equal = (moments[1:] == moments[:-1]) & (owners[1:] == owners[:-1])
        return int(np.count_nonzero(np.append(equal, False) | np.append(False, equal)))

    @property
    def tied_users(self) -> np.ndarray | None:
        """(users,) bool: users with several events, all of one time, so that their order is unknown.

        None where the source has no times or places for anybody.
        """
        moments = self.moments
        if moments is None:
            return None
        several = self.lengths > 1
        tied = np.zeros(len(self), dtype=bool)
        tied[several] = moments[self.offsets[:-1][several]] == moments[self.offsets[1:][several] - 1]
        return tied

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        """Return the users at positions `users` as tensors on `device`; `seed` seeds their local randomness."""
        part = self.select(users)
        tied = part.tied_users  # a function of each user's own times alone
        return UserBatch(
            items=torch.from_numpy(part.items).to(device).long(),  # half the bytes to carry
            lengths=torch.from_numpy(part.lengths.astype(np.int64)).to(device),
            n_items=self.n_items,
            keys=self.keys(users, seed).to(device),
            ratings=None if part.ratings is None else torch.from_numpy(part.ratings).to(device),
            ordered=self.ordered or tied is not None,
            tied=None if tied is None else torch.from_numpy(tied).to(device),
            disliked=None if part.disliked is None else torch.from_numpy(part.disliked.padded()).to(device),
            times=None if part.times is None else torch.from_numpy(part.times.astype(np.float64)).to(device),
            people=None if part.people is None else part.people.to(device),
        )

    def keys(self, users: np.ndarray, seed: int) -> Tensor:
        """Return the keys of the users at positions `users`, as in their batch, (B,) int64."""
        return keys(seed, torch.from_numpy(self._identities(users)))

    def _events(self, chosen: np.ndarray, offsets: np.ndarray) -> "Histories":
        """Return the events `chosen` (a mask or positions) in rows that end at `offsets`."""

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[chosen]

        return replace(
            self,
            offsets=offsets,
            items=self.items[chosen],
            ratings=some(self.ratings),
            times=some(self.times),
            places=some(self.places),
        )

    def _identities(self, users: np.ndarray) -> np.ndarray:
        known = users if self.identities is None else self.identities[users]
        return np.ascontiguousarray(known, dtype=np.int64)
