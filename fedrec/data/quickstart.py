"""The quickstart's data: a small video library, generated, so that the first run needs no download.

Every item has one or two genres, a year, a title and a hidden place in taste space. Genres, title words and places
correlate, popularity follows a power law, and a user's taste drifts towards the items seen last. So content, other
users and order each carry signal, as in real logs. Sources: the popularity law of Zipf and the Gumbel-max draw.
"""

import numpy as np
import polars as pl

from fedrec.data.log import Log

SIZES = (1000, 600, 40)
"""Users, items, and events a user on average, unless the scenario says otherwise."""

_GENRES = ("Adventure", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Horror", "Musical", "Romance", "War")
_WORDS = (
    "Island Voyage Treasure Summit River Jungle",
    "Wedding Neighbours Circus Holiday Cousins Kitchen",
    "Detective Heist Witness Alibi Ransom Verdict",
    "Glaciers Oceans Archive Harvest Satellites Bees",
    "Letters Orchard Silence Daughters Winter House",
    "Dragon Wizard Kingdom Crystal Prophecy Moon",
    "Cellar Haunting Scream Shadow Crypt Fog",
    "Orchestra Tango Melody Ballroom Choir Encore",
    "Kisses Paris Garden Sunset Promise Roses",
    "Battalion Trench Convoy Armistice Bridge Medal",
)
_WIDTH = 16  # dimensions of taste space
_START = 1_600_000_000  # a fixed instant: times are made up and only their order matters


def generate(seed: int, users: int = SIZES[0], items: int = SIZES[1], interactions_per_user: int = SIZES[2]) -> Log:
    """Generate the log and catalogue of `users` x `items`, the same for the same arguments."""
    rng = np.random.default_rng([seed, users, items, interactions_per_user])
    places, table = _library(rng, items)
    popularity = 0.8 * np.log(np.arange(1, items + 1))[rng.permutation(items)]
    lengths = np.clip(rng.lognormal(np.log(interactions_per_user) - 0.18, 0.6, users), 5, items // 3).astype(np.int64)

    taste = places[rng.integers(items, size=users)] + 0.6 * places[rng.integers(items, size=users)]
    seen = np.zeros((users, items), dtype=bool)
    owners, picked = [], []
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        wish = 4.2 * taste[active] @ places.T - popularity + rng.gumbel(size=(len(active), items))
        wish[seen[active]] = -np.inf
        item = wish.argmax(1)
        seen[active, item] = True
        taste[active] = 0.85 * taste[active] + 0.3 * places[item]
        owners.append(active)
        picked.append(item)
    user, item = np.concatenate(owners), np.concatenate(picked)
    steps = np.repeat(np.arange(len(owners)), [len(part) for part in owners])
    start = _START + rng.integers(0, 31_536_000, users)
    events = pl.DataFrame({"user": user, "item": item, "timestamp": start[user] + 3600 * steps})
    return Log("quickstart", events, table, whole_catalogue=True)


def _library(rng: np.random.Generator, items: int) -> tuple[np.ndarray, pl.DataFrame]:
    """Draw places in taste space (items, _WIDTH) with unit rows on average, and the table of public features."""
    centres = rng.normal(size=(len(_GENRES), _WIDTH))
    first, second = rng.integers(len(_GENRES), size=(2, items))
    second = np.where(rng.random(items) < 0.5, first, second)
    series = rng.integers(6, size=items)  # the title's word: a finer taste within the genre
    fine = rng.normal(size=(len(_GENRES), 6, _WIDTH))
    year = rng.integers(1960, 2021, size=items)
    age = np.outer((year - 1990) / 20, rng.normal(size=_WIDTH))
    own = rng.normal(size=(items, _WIDTH))
    places = centres[first] + 0.7 * centres[second] + 0.7 * fine[first, series] + 0.4 * age + 0.8 * own
    places *= np.sqrt(items / (places**2).sum())
    words = [line.split() for line in _WORDS]
    titles = [
        f"The {words[b][n % 6]} of the {words[a][s]}"
        for n, (a, b, s) in enumerate(zip(first, second, series, strict=True))
    ]
    genres = [sorted({_GENRES[a], _GENRES[b]}) for a, b in zip(first, second, strict=True)]
    return places, pl.DataFrame({"item": np.arange(items), "title": titles, "year": year, "genres": genres})
