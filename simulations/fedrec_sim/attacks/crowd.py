"""Users that an attack adds to a population: without events, or with unique histories."""

from dataclasses import replace

import numpy as np

from fedrec.data.histories import Histories


def identities(users: Histories) -> np.ndarray:
    """Return the identity of each user's local randomness, (users,) int64."""
    return np.arange(len(users)) if users.identities is None else users.identities


def with_empty_users(users: Histories, count: int) -> Histories:
    """Return `users` and `count` more without events, with unique identities."""
    return joined(users, count, np.zeros(0, dtype=users.items.dtype), 0)


def with_unusual_users(users: Histories, count: int, seed: int) -> Histories:
    """Return `users` and `count` more, each with as many events as the median user, of items drawn evenly.

    Real histories have popular items and are alike. An even draw is unlike all of them, and so the easiest to find.
    Ratings are the highest in the data. Times follow the last one, a second apart.
    """
    length = min(users.n_items, max(1, int(np.median(users.lengths))))
    draw = np.random.default_rng([seed, 5])
    rows = [draw.permutation(users.n_items)[:length] for _ in range(count)]
    items = np.concatenate(rows) if rows else np.zeros(0)
    return joined(users, count, items.astype(users.items.dtype), length)


def joined(users: Histories, count: int, items: np.ndarray, length: int) -> Histories:
    """Add `count` users to `users`, each with the next `length` of `items` (count x length,), under new identities."""
    known = identities(users)
    fresh = np.setdiff1d(-1 - np.arange(count + len(known)), known)[:count]

    def longer(values: np.ndarray | None, step: int = 0) -> np.ndarray | None:
        if values is None:
            return None
        added = values.max(initial=0) + step * np.tile(np.arange(1, length + 1), count)
        return np.concatenate([values, added.astype(values.dtype)])

    return replace(
        users,
        offsets=np.concatenate([users.offsets, users.offsets[-1] + length * np.arange(1, count + 1)]),
        items=np.concatenate([users.items, items]),
        ratings=longer(users.ratings),
        times=longer(users.times, step=1),
        places=longer(users.places, step=1),
        identities=np.concatenate([known, fresh]).astype(np.int64),
        people=None if users.people is None else users.people.with_strangers(count),
    )
