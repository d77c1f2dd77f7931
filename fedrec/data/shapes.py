"""Small generated logs of awkward shapes, each a challenge for a method that was tuned on one kind of log.

Users like items near their own place in taste space, and popular ones. The next item is the Gumbel-max draw of both. A
shape sets the sizes, the steepness of popularity, and the columns that the log lacks. Quality on these logs is no
evidence for real ones. The requirement on them is that no method falls below popularity.
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
    """The shape of a generated log.

    Attributes:
        sizes: users, items, and events a user on average.
        least: events that every user has.
        steepness: popularity falls with rank to the power of minus this.
        taste: standard deviation of a user's liking over items of the same popularity.
        drift: share of the way that a user's taste moves to each consumed item; with 0, order carries no signal.
        ordered: True if the log has times.
        metadata: True if items have genres and a year.
        stars: True if events have ratings.
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
"""Named shapes. `rated-films`: a small log of films with stars, without times or metadata. Nearly every user has seen
a few of the films."""


def generator(name: str) -> tuple[Generate, tuple[int, int, int]]:
    """Return the generator (seed, users, items, events a user) of the shape `name`, and its usual sizes."""
    return partial(generate, name), SHAPES[name].sizes


def generate(name: str, seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    """Generate a log of the shape `name`, the same for the same arguments.

    Args:
        name: one of `SHAPES`.
        seed: seed of every draw.
        users: number of users.
        items: number of items of the catalogue, including items without an event.
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
