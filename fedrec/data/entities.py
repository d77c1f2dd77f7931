"""A generated log whose users follow hidden facts about items: only the triples show what two items have in common.

An item has a maker, a maker belongs to a school, and users like a few schools. The items have one label, their format,
which has nothing to do with taste. So two items that the same people like share a fact that is two steps away. The
facts depend on the item's number alone, not on the seed: one file of triples fits every seed.
"""

import numpy as np
import polars as pl

from fedrec.data.log import Log

NAME = "knowledge"
SIZES = (3000, 600, 15)
"""Users, items, and events of each user, unless the scenario says otherwise."""
SCHOOLS = 20
MAKERS = 10
"""Makers of each school."""
_LIKED = 2  # schools of a user
_STRENGTH = 3.0  # how much taste counts, against the draw's standard deviation of 1.3
_WORDS = ("one", "two", "three", "four")  # formats, which mean nothing


def generate(seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    """Generate a log, the same for the same arguments.

    Args:
        seed: seed of tastes and choices.
        users: number of users.
        items: number of items of the catalogue.
        interactions_per_user: events of each user, at most a third of the items.
    """
    rng = np.random.default_rng([seed, users, items, interactions_per_user])
    school = _maker(items) % SCHOOLS
    popularity = -0.5 * np.log(np.arange(1, items + 1))[rng.permutation(items)]
    length = min(interactions_per_user, max(1, items // 3))
    picked = np.zeros((users, length), np.int64)
    for user in range(users):
        liked = rng.permutation(SCHOOLS)[:_LIKED]
        wish = popularity + _STRENGTH * np.isin(school, liked) + rng.gumbel(size=items)
        picked[user] = np.argsort(-wish)[:length]
    events = pl.DataFrame({"user": np.repeat(np.arange(users), length), "item": picked.reshape(-1)})
    words = [_WORDS[at] for at in np.random.default_rng([1, 7]).integers(len(_WORDS), size=items)]
    table = pl.DataFrame({"item": np.arange(items), "format": [[word] for word in words]})
    return Log(NAME, events, table, whole_catalogue=True)


def triples(items: int = SIZES[1]) -> pl.DataFrame:
    """Return the facts about the first `items` items: their maker, the maker's school, and the schools' land."""
    maker = _maker(items)
    makers, schools = np.arange(SCHOOLS * MAKERS), np.arange(SCHOOLS)
    rows = [(str(item), "made_by", f"maker/{each}") for item, each in enumerate(maker)]
    rows += [(f"maker/{each}", "member_of", f"school/{each % SCHOOLS}") for each in makers]
    rows += [(f"school/{each}", "in", f"land/{each % 4}") for each in schools]
    return pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row")


def _maker(items: int) -> np.ndarray:
    """(items,) the maker of each item, 0 to SCHOOLS * MAKERS - 1; drawn from the item's number alone."""
    return np.random.default_rng([2, 7]).integers(SCHOOLS * MAKERS, size=items)
