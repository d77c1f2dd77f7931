"""What friends' shares are worth on a generated log: circles of friends with much the same taste, and few events each.

Items are in groups, and a group's items have like vectors. A circle likes a few groups; each of its people replaces
some of them by others. A list is made from a user's own few events, alone or with the shares of all friends. It says
what noise costs where friends are alike, and nothing about real friends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrec.privacy.discrete.stream import WordStream
from fedrec.social.blend import bonus, taste
from fedrec.social.shares import Share, ShareTerms, share

SPACE = "00" * 32
GROUPS, ITEMS, WIDTH = 20, 300, 8
TOP = 10
DELTA = 1e-5
CLEAR = 100.0, 0.5
"""Epsilon and delta under which `bonus` takes a vector without noise for nearly all signal."""


@dataclass(frozen=True)
class Worth:
    """HR@10 in the whole catalogue, without the user's own items.

    Attributes:
        alone: from the user's own events.
        shared: with friends' shares.
        clear: with friends' vectors without any noise, which no device gives away: the most that friends can bring.
    """

    alone: float
    shared: float
    clear: float


def measure(
    epsilon: float,
    friends: int = 10,
    users: int = 2000,
    known: int = 3,
    theirs: int = 3,
    liked: int = 2,
    alike: float = 0.9,
    seed: int = 0,
) -> Worth:
    """Generate circles, let each user make one share, and rank the test items.

    Args:
        epsilon: of a share.
        friends: of each user; circles have one person more.
        users: rounded down to whole circles.
        known: events of the user who gets a list; one more is the test item.
        theirs: events of each friend, from `known` to 14.
        liked: groups of a circle.
        alike: chance that a person keeps a group that the circle likes.
        seed: of everything, the noise included.
    """
    rng = np.random.default_rng([seed, friends, users])
    group = rng.permutation(np.arange(ITEMS) % GROUPS)
    items = rng.normal(size=(GROUPS, WIDTH))[group] + 0.7 * rng.normal(size=(ITEMS, WIDTH))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    circles = users // (friends + 1)
    events, others = [], []
    for circle in range(circles):
        common = rng.permutation(GROUPS)[:liked]
        events += [_events(rng, group, common, alike, theirs) for _ in range(friends + 1)]
        whole = np.arange(circle * (friends + 1), (circle + 1) * (friends + 1))
        others += [whole[whole != who] for who in whole]
    own = [each[:known] for each in events]
    return worth(
        items, own, np.array([each[theirs] for each in events]), [e[:theirs] for e in events], others, epsilon, seed
    )


def worth(
    rows: np.ndarray,
    known: Sequence[np.ndarray],
    targets: np.ndarray,
    given: Sequence[np.ndarray],
    friends: Sequence[np.ndarray],
    epsilon: float,
    seed: int = 0,
) -> Worth:
    """Let each user make one share, and rank the users' test items.

    Args:
        rows: (items, width) item vectors of a released model.
        known: of each user, the items from which the list is made; at least one.
        targets: (users,) test items.
        given: of each user, the items of which the share is made.
        friends: of each user, the positions of the friends (`fedrec.social.edges.friends_of`). Users without friends
            count with their own scores.
        epsilon: of a share.
        seed: of the noise.
    """
    width = rows.shape[1]
    terms, clear = ShareTerms(SPACE, width, 1.0, epsilon, DELTA), ShareTerms(SPACE, width, 1.0, *CLEAR)
    words = WordStream.seeded(f"devices of a simulation {seed}")
    tastes = [taste(rows[each]) for each in given]
    shares = [share(each, terms, lambda _: 0, words) for each in tastes]
    hits: dict[str, list[bool]] = {"alone": [], "shared": [], "clear": []}
    for who, target in enumerate(targets.tolist()):
        own, theirs = rows @ taste(rows[known[who]]), friends[who].tolist()
        scores = dict.fromkeys(hits, own)
        if theirs:
            scores["shared"] = own + bonus(own, rows, [shares[each] for each in theirs], SPACE)
            scores["clear"] = own + bonus(own, rows, [Share(clear, 0, tastes[each]) for each in theirs], SPACE)
        for name, values in scores.items():
            left = values.copy()
            left[known[who]] = -np.inf
            hits[name].append(bool((left > left[target]).sum() < TOP))
    return Worth(**{name: float(np.mean(each)) for name, each in hits.items()})


def _events(rng: np.random.Generator, group: np.ndarray, common: np.ndarray, alike: float, count: int) -> np.ndarray:
    """Draw distinct items of one person, (count + 1,): the groups of the circle, some replaced."""
    groups = np.where(rng.random(len(common)) < alike, common, rng.integers(GROUPS, size=len(common)))
    return rng.choice(np.flatnonzero(np.isin(group, groups)), count + 1, replace=False)
