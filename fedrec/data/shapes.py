"""Small generated logs of awkward shapes, each known to trouble a method that was tuned on one kind of log.

Users like items near their own place in taste space, and popular ones; what they take next is the Gumbel-max draw of
both. A shape says how many there are of everything, how steep popularity is, and what the log leaves out. Quality on
these logs says nothing about real ones; what must hold on them is that no method falls below popularity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from fedrec.data.log import Log

_WIDTH = 8  # dimensions of taste space
_GENRES = 12
_START = 1_600_000_000  # a fixed instant: times are made up and only their order matters
Generate = Callable[[int, int, int, int], Log]


@dataclass(frozen=True)
class Shape:
    """What is peculiar to a log.

    Attributes:
        sizes: users, items, and events a user on average.
        least: events that every user has.
        steepness: popularity falls with rank to the power of minus this.
        taste: standard deviation of a user's liking over items of the same popularity.
        drift: part of the way that a user's taste moves to each item taken; 0 leaves nothing to learn from order.
        ordered: whether the log has times.
        metadata: whether items have genres and a year.
        stars: whether events have ratings.
    """

    sizes: tuple[int, int, int]
    least: int = 5
    steepness: float = 0.8
    taste: float = 2.0
    drift: float = 0.15
    ordered: bool = True
    metadata: bool = True
    stars: bool = False


SHAPES = {
    "few-items": Shape((800, 120, 15)),
    "no-order": Shape((1000, 600, 30), drift=0.0, ordered=False),
    "no-metadata": Shape((1000, 600, 30), metadata=False),
    "heavy-head": Shape((1000, 1500, 20), steepness=1.6, taste=1.0),
    "cold-users": Shape((2000, 500, 4), least=3),
    "rated-films": Shape(
        (1500, 2071, 24), least=3, steepness=1.35, taste=1.2, drift=0.0, ordered=False, metadata=False, stars=True
    ),
}
"""Named shapes. `rated-films`: a small log of films with stars, without times or metadata, of which a few are known to
nearly everybody."""


def generator(name: str) -> tuple[Generate, tuple[int, int, int]]:
    """The function of (seed, users, items, events a user) of the shape `name`, and its usual sizes."""
    return partial(generate, name), SHAPES[name].sizes


def generate(name: str, seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    """The log of the shape `name`; the same for the same arguments.

    Args:
        name: one of `SHAPES`.
        seed: of every draw.
        users: number of users.
        items: number of items; the catalogue lists those too that nobody has.
        interactions_per_user: mean number of events, as far as the catalogue allows.
    """
    shape = SHAPES[name]
    rng = np.random.default_rng([seed, users, items, interactions_per_user, *name.encode()])
    genre, year = rng.integers(_GENRES, size=items), rng.integers(1960, 2021, size=items)
    places = rng.normal(size=(_GENRES, _WIDTH))[genre] + 0.7 * rng.normal(size=(items, _WIDTH))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    popularity = -shape.steepness * np.log(np.arange(1, items + 1))[rng.permutation(items)]
    extra = rng.lognormal(np.log(max(1, interactions_per_user - shape.least)) - 0.32, 0.8, users)
    lengths = np.clip(shape.least + extra, shape.least, max(shape.least, items // 3)).astype(np.int64)

    taste = places[rng.integers(items, size=users)]
    scale = shape.taste * _WIDTH**0.5
    seen = np.zeros((users, items), dtype=bool)
    owners, picked, liking = [], [], []
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        near = scale * taste[active] @ places.T
        wish = near + popularity + rng.gumbel(size=near.shape)
        wish[seen[active]] = -np.inf
        item = wish.argmax(1)
        seen[active, item] = True
        taste[active] = (1 - shape.drift) * taste[active] + shape.drift * places[item]
        owners.append(active)
        picked.append(item)
        liking.append(near[np.arange(len(active)), item])
    user, item = np.concatenate(owners), np.concatenate(picked)
    columns = {"user": user, "item": item}
    if shape.ordered:
        steps = np.repeat(np.arange(len(owners)), [len(part) for part in owners])
        columns["timestamp"] = _START + rng.integers(0, 31_536_000, users)[user] + 3600 * steps
    if shape.stars:
        felt = np.concatenate(liking) / scale + 0.3 * rng.normal(size=len(user))
        columns["rating"] = np.clip(np.round(6 + 3 * felt) / 2, 0.5, 5)
    table = pl.DataFrame({"item": np.arange(items)})
    if shape.metadata:
        table = table.with_columns(pl.Series("year", year), pl.Series("genre", [f"genre-{g}" for g in genre]))
    return Log(name, pl.DataFrame(columns), table, whole_catalogue=True)
