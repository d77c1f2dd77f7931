"""People of a donor log who may be people of a private log: by public dates, and in a benchmark by their histories.

| check | looks at | covered by epsilon |
|---|---|---|
| active in the private log's period | the donor's times, and a period that the publisher knows | yes: it is public |
| histories alike | both logs | no: it is a look at private data, for benchmarks, and the result says so |

Two histories are alike if they share most of their items. The Jaccard index is taken over the items that both logs
have; the index weighted by rarity counts an item by the logarithm of its inverse frequency, so that two people who both
know the popular items are not alike for it. A deployment cannot make the second check centrally. A device can make it
for its own user, since the donor log is public, and stay out of the run; nothing of that leaves the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from fedrec.data.histories import Histories

LEVELS = (0.3, 0.4, 0.5, 0.8)
"""Indices at which alike histories are counted."""
_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Likeness:
    """How alike each donor user's history is to that of the most alike user of the private log.

    Attributes:
        jaccard: (donor users,) shared items over all items of both.
        rarity: (donor users,) the same with items weighted by rarity.
    """

    jaccard: np.ndarray
    rarity: np.ndarray

    def counts(self) -> dict[float, tuple[int, int]]:
        """Return, for each of `LEVELS`, how many donor users are above it by either index."""
        return {level: (int((self.jaccard > level).sum()), int((self.rarity > level).sum())) for level in LEVELS}


def active(donor: Histories, start: float, end: float) -> np.ndarray:
    """Return which donor users have an event in a period, (users,) bool.

    Args:
        donor: with times.
        start: of the period, in seconds since 1970, included.
        end: of the period, excluded.
    """
    if donor.times is None:
        raise ValueError("the donor log has no times")
    inside = (donor.times >= start) & (donor.times < end)
    return np.bincount(_owners(donor)[inside], minlength=len(donor)) > 0


def likeness(donor: Histories, private: Histories, place: np.ndarray) -> Likeness:
    """Compare every donor user with every user of the private log.

    Args:
        donor: the public log.
        private: the private log, in a benchmark.
        place: (donor items,) position of each donor item in the private catalogue, -1 for none.
    """
    ours = _table(_owners(donor), place[donor.items], len(donor), private.n_items)
    theirs = _table(_owners(private), private.items, len(private), private.n_items)
    frequency = np.asarray(theirs.sum(0)).ravel()
    rarity = np.log(len(private) / np.maximum(frequency, 1)).clip(min=0)
    return Likeness(*(np.concatenate([*_best(ours, theirs, weight)]) for weight in (np.ones(len(rarity)), rarity)))


def _best(ours: csr_matrix, theirs: csr_matrix, weight: np.ndarray) -> Iterator[np.ndarray]:
    total = theirs @ weight
    weighted = theirs.multiply(weight).tocsr()
    for first in range(0, ours.shape[0], _USERS_AT_ONCE):
        part = ours[first : first + _USERS_AT_ONCE]
        shared = (part @ weighted.T).toarray()
        union = (part @ weight)[:, None] + total - shared
        yield (shared / np.maximum(union, 1e-9)).max(1)


def _table(owners: np.ndarray, items: np.ndarray, users: int, n_items: int) -> csr_matrix:
    known = items >= 0
    pairs = (owners[known], items[known])
    table = csr_matrix((np.ones(int(known.sum())), pairs), shape=(users, n_items))
    table.data[:] = 1.0  # an item counts once
    return table


def _owners(histories: Histories) -> np.ndarray:
    return np.repeat(np.arange(len(histories)), histories.lengths)
