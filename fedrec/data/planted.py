"""A generated log in which the ORDER of events is what predicts, in any number of users.

Each item has a public vector. The next item resembles a turned copy of the newest one, and less so of the one before:
the turns are fixed rotations, the same for all users, and no method is given them. So what a user had lately does not
recur, which item follows which is no symmetric relation, and a mean of the history says little. A user chooses the best
of a few items that are shown, drawn by popularity (the Gumbel-max draw). Quality here is no evidence for real logs: it
shows what a method can do where the order carries the signal.
"""

import numpy as np
import polars as pl

from fedrec.data.log import Log

SIZES = (100_000, 500, 8)
"""Users, items, and events of each user, unless the scenario says otherwise."""

_WIDTH = 8  # numbers of an item's public vector
_SHOWN = 64  # items of which a user chooses one
_STRENGTH = 6.0  # how much the order counts, against the draw's standard deviation of 1.3
_BEFORE = 0.5  # how much the event before the newest counts
_STEEPNESS = 0.5  # popularity falls with rank to the power of minus this
_START = 1_600_000_000  # a fixed instant: times are made up and only their order matters
_BLOCK = 10_000  # users at a time


def generate(seed: int, users: int = SIZES[0], items: int = SIZES[1], interactions_per_user: int = SIZES[2]) -> Log:
    """Generate a log of `users` with `interactions_per_user` events each, the same for the same arguments.

    Args:
        seed: seed of every draw.
        users: number of users.
        items: number of items of the catalogue.
        interactions_per_user: events of each user, at most a third of the items.
    """
    rng = np.random.default_rng([seed, users, items, interactions_per_user])
    vectors = rng.normal(size=(items, _WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turn, before = (np.linalg.qr(rng.normal(size=(_WIDTH, _WIDTH)))[0] for _ in range(2))
    chance = np.arange(1, items + 1) ** -_STEEPNESS
    chance = (chance / chance.sum())[rng.permutation(items)]
    length = min(interactions_per_user, max(1, items // 3))
    blocks = [
        _histories(rng, min(_BLOCK, users - start), length, (vectors, turn, before, chance))
        for start in range(0, users, _BLOCK)
    ]
    chosen = np.concatenate(blocks) if blocks else np.zeros((0, length), np.int64)
    user = np.repeat(np.arange(users), length)
    times = _START + 3600 * np.tile(np.arange(length), users)
    events = pl.DataFrame({"user": user, "item": chosen.reshape(-1), "timestamp": times})
    table = pl.DataFrame({"item": np.arange(items), "vector": pl.Series(vectors.astype(np.float32).tolist())})
    return Log("planted-order", events, table, whole_catalogue=True)


def _histories(
    rng: np.random.Generator, users: int, length: int, world: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """(users, length) items, each at most once a user, unless all that are shown were chosen before."""
    vectors, turn, before, chance = world
    mass = chance.cumsum()
    chosen = np.full((users, length), -1, dtype=np.int64)
    last, older = (vectors[rng.integers(len(vectors), size=users)] for _ in range(2))
    for step in range(length):
        shown = np.searchsorted(mass, rng.random((users, _SHOWN)) * mass[-1], side="right").clip(max=len(chance) - 1)
        aim = _STRENGTH * (last @ turn + _BEFORE * older @ before)
        wish = np.einsum("ucd,ud->uc", vectors[shown], aim) + rng.gumbel(size=shown.shape)
        wish[(shown[:, :, None] == chosen[:, None, :step]).any(2)] = -np.inf
        item = shown[np.arange(users), wish.argmax(1)]
        chosen[:, step] = item
        last, older = vectors[item], last
    return chosen
