"""The list of one person on a device: filters, diversity, freshness, and exploration that is marked.

| step | what |
|---|---|
| filter | items that are not allowed, excluded or seen are left out before anything is ranked |
| relevance | the exact list of the model; for the other steps a pool, its best 10 k items, at least 100 |
| freshness | adds weight x 2^(-age / half-life) to relevance, which the pool scales to 0..1 |
| diversity | maximal marginal relevance (Carbonell and Goldstein 1998), as in `fedrec.recommend.ranking` |
| exploration | each place goes with a small probability to a random item of the rest of the pool |

Every entry says why it is there. Without diversity, freshness and exploration a list is the exact one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice import draws
from fedrec.ondevice.base import Asked, DeviceModel
from fedrec.ondevice.history import State

Why = Literal["exact", "popular", "friends", "fresh", "diverse", "explored"]
"""Why an item is on a list: by its score; by popularity, for a person without a history; because friends' taste brought
it there; because freshness or diversity brought it before items of a higher score; or drawn, to learn about the
person's taste."""

Rows = Callable[[np.ndarray], np.ndarray | None]
POOL, LEAST_POOL = 10, 100
NEWCOMER = 0.3
"""Diversity of a newcomer's list, where none is asked for."""
_EXPLORE = 0x90  # stream of the draws


@dataclass(frozen=True)
class Freshness:
    """A preference for new items.

    Attributes:
        ages: (items,) float64, age of each item in any unit, NaN where unknown (counts as old).
        half_life: age, in that unit, at which the preference is half.
        weight: what the newest item gains, relative to the spread of the pool's scores.
    """

    ages: np.ndarray
    half_life: float
    weight: float = 0.3

    def bonus(self, items: np.ndarray) -> np.ndarray:
        """What `items` (n,) gain, (n,) float64."""
        ages = np.maximum(np.nan_to_num(self.ages[items], nan=np.inf), 0)
        return self.weight * np.exp2(-ages / self.half_life)


@dataclass(frozen=True)
class Wishes:
    """What a list shall be.

    Attributes:
        k: most places.
        exclude: (n,) int64, items that are left out.
        seen: True if items of the history may be on the list.
        allowed: (items,) bool, False for items that are left out; None allows all.
        diversity: 0 for the best scores, towards 1 for items that are unlike each other; None: 0, for a newcomer .3.
        freshness: a preference for new items.
        explore: probability of each place to go to a drawn item.
        seed: of the draws; the same seed gives the same list.
        bonus: (items,) float64 of friends' taste, added to the scores; None for none.
    """

    k: int = 10
    exclude: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seen: bool = False
    allowed: np.ndarray | None = None
    diversity: float | None = None
    freshness: Freshness | None = None
    explore: float = 0.0
    seed: int = 0
    bonus: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k = {self.k}: must be at least 1")
        for name, value in (("diversity", self.diversity or 0.0), ("explore", self.explore)):
            if not 0 <= value < 1:
                raise InputError(f"{name} = {value:g}: must be at least 0 and below 1")
        if self.freshness is not None and not (self.freshness.half_life > 0 and self.freshness.weight >= 0):
            raise InputError("freshness: half_life must be above 0 and weight at least 0")


@dataclass(frozen=True)
class Entry:
    """One place of a list: the item's position in the catalogue, its score, and why it is there."""

    item: int
    score: float
    why: Why


def recommend(model: DeviceModel, state: State, wishes: Wishes, rows: Rows | None = None) -> list[Entry]:
    """The list of one person.

    Args:
        model: the model on the device.
        state: the person's, of this model.
        wishes: what the list shall be.
        rows: from items (n,) to rows (n, width) whose cosine is their likeness, e.g. `PublicItems.rows`; by default the
            model's own rows.

    Raises:
        InputError: when diversity is asked for and nothing says how alike items are.
    """
    return recommend_many(model, [(state, wishes)], rows)[0]


def recommend_many(
    model: DeviceModel, asked: Sequence[tuple[State, Wishes]], rows: Rows | None = None
) -> list[list[Entry]]:
    """The lists of several people, each equal to that of `recommend`. Args and Raises: as there."""
    found = model.top_many([_asked(state, wishes) for state, wishes in asked])
    return [
        _with_friends(model, state, wishes, _listed(model, not len(state.history), wishes, rows, *best))
        for (state, wishes), best in zip(asked, found, strict=True)
    ]


def _with_friends(model: DeviceModel, state: State, wishes: Wishes, entries: list[Entry]) -> list[Entry]:
    """Mark the items that are there by their score, and that the own scores alone would not list."""
    if wishes.bonus is None:
        return entries
    alone = set(model.top_many([replace(_asked(state, wishes), k=wishes.k, bonus=None)])[0][0].tolist())
    own = ("exact", "popular")
    return [replace(each, why="friends") if each.why in own and each.item not in alone else each for each in entries]


def _asked(state: State, wishes: Wishes) -> Asked:
    left_out = np.concatenate([wishes.exclude.astype(np.int64), state.history.disliked])
    if not wishes.seen:
        left_out = np.concatenate([left_out, state.history.items])
    wanted = max(POOL * wishes.k, LEAST_POOL) if _wide(not len(state.history), wishes) else wishes.k
    return Asked(state, wanted, left_out, wishes.allowed, wishes.bonus)


def _wide(newcomer: bool, wishes: Wishes) -> bool:
    """Whether a list is chosen from a pool."""
    return bool(wishes.freshness is not None or wishes.explore or wishes.diversity or newcomer)


def _listed(
    model: DeviceModel, newcomer: bool, wishes: Wishes, rows: Rows | None, items: np.ndarray, scores: np.ndarray
) -> list[Entry]:
    """The list made of the best items (m,) and their scores (m,)."""
    plain: Why = "popular" if newcomer else "exact"
    if not _wide(newcomer, wishes) or not len(items):
        return [Entry(item, score, plain) for item, score in zip(items.tolist(), scores.tolist(), strict=True)]
    relevance = _scaled(scores)
    changed = relevance if wishes.freshness is None else relevance + wishes.freshness.bonus(items)
    likeness = _unit_rows(model, items, rows, wishes.diversity is not None)
    diversity = NEWCOMER if wishes.diversity is None and newcomer else wishes.diversity or 0.0
    fresh = _chosen(changed, None, wishes.k, 0.0)
    order = _chosen(changed, likeness, wishes.k, diversity)
    reasons: dict[int, Why] = dict.fromkeys(order, "diverse")
    reasons |= {place: "fresh" for place in fresh if place in reasons}
    reasons |= {place: plain for place in range(min(wishes.k, len(items))) if place in reasons}
    for slot, place in _explored(order, len(items), wishes).items():
        order[slot] = place
        reasons[place] = "explored"
    return [Entry(int(items[place]), float(scores[place]), reasons[place]) for place in order]


def _scaled(scores: np.ndarray) -> np.ndarray:
    wide = scores.astype(np.float64)
    return (wide - wide.min()) / max(float(wide.max() - wide.min()), 1e-12)


def _unit_rows(model: DeviceModel, items: np.ndarray, rows: Rows | None, asked: bool) -> np.ndarray | None:
    found = None if rows is None else rows(items)
    found = model.item_rows(items) if found is None else found
    if found is None:
        if asked:
            raise InputError("diversity: neither the model nor the catalogue says how alike items are; leave it out")
        return None
    wide = found.astype(np.float64)
    return wide / np.maximum(np.sqrt(np.square(wide).sum(1, keepdims=True)), 1e-12)


def _chosen(relevance: np.ndarray, rows: np.ndarray | None, k: int, diversity: float) -> list[int]:
    """Places of the pool, one after the other: relevance less the likeness to what is chosen already."""
    if rows is None or not diversity:
        return np.argsort(-relevance, kind="stable")[:k].tolist()
    closest, taken = np.zeros(len(relevance)), np.zeros(len(relevance), bool)
    order: list[int] = []
    for _ in range(min(k, len(relevance))):
        worth = (1 - diversity) * relevance - diversity * closest
        worth[taken] = -np.inf
        place = int(worth.argmax())
        order.append(place)
        taken[place] = True
        likeness = rows @ rows[place]
        closest = likeness if len(order) == 1 else np.maximum(closest, likeness)
    return order


def _explored(order: list[int], pool: int, wishes: Wishes) -> dict[int, int]:
    """Slots of the list that go to other places of the pool, each place once."""
    rest = [place for place in range(pool) if place not in set(order)]
    if not wishes.explore or not rest:
        return {}
    key = draws.keys(wishes.seed, np.zeros(1, np.int64))
    coin, which = draws.uniform(key, _EXPLORE, 2 * len(order))[0].reshape(2, -1)
    found: dict[int, int] = {}
    for slot in np.flatnonzero(coin < wishes.explore).tolist():
        if rest:
            found[slot] = rest.pop(int(which[slot] * len(rest)))
    return found
