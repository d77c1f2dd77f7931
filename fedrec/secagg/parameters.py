"""Neighbours and threshold of SecAgg+ for a stated corruption and dropout.

Source: Bell et al. 2020 (CCS), section 3: members sit on a ring in random order, and each has the nearest k as
neighbours (a Harary graph). Four bounds hold for all members together. The tails are hypergeometric and exact.

| event | probability at most |
|---|---|
| among the neighbours of a member are `threshold` corrupt ones | 2**-40 |
| or, where two survivor sets are held off, 2 threshold - neighbours corrupt ones | 2**-40 |
| the honest survivors fall apart: k/2 members in a row are corrupt or dropped | 2**-40 |
| fewer than `threshold` neighbours of a member survive | 2**-30 |

A server that may choose the ring among 2**g tries the 2**-40 as often, so the bounds on a leak are 2**-(40 + g) then.

Two survivor sets: a server needs `threshold` shares of a member's key and as many of its seed. An honest neighbour
gives one of them, a corrupt one both, so 2 threshold > neighbours + corrupt neighbours leaves the server short.

Below 100 members the graph is complete, and the bounds are certainties.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, lgamma, log

from fedrec.errors import PrivacyError

COMPLETE_BELOW = 100
MOST_GRINDING = 128
_MILLION = 1_000_000
SECURITY, CORRECTNESS = 40, 30
"""Minus log2 of the probability of a leak, and of a round that is void although no more dropped than stated."""


@dataclass(frozen=True)
class Assumption:
    """What a run assumes of its members; it is part of the run card. Fractions have six decimals.

    Attributes:
        corrupt: largest fraction of a cohort that works with the server.
        dropout: largest fraction that drops in a round, over all stages.
        split_view: hold against a server that shows two survivor sets.
        grinding: the server may choose the ring among 2**grinding ones, since it can change what the order follows
            from. The bounds on a leak hold for all of them together.
    """

    corrupt: float = 0.05
    dropout: float = 0.3
    split_view: bool = True
    grinding: int = 0

    def __post_init__(self) -> None:
        for name in ("corrupt", "dropout"):
            object.__setattr__(self, name, round(getattr(self, name), 6))
        if not 0 <= self.grinding <= MOST_GRINDING:
            raise PrivacyError(f"grinding {self.grinding}: a whole number from 0 to {MOST_GRINDING}")
        if not (0 <= self.corrupt < 1 and 0 <= self.dropout < 1 and self.corrupt + self.dropout < 1):
            raise PrivacyError(
                f"corrupt {self.corrupt} and dropout {self.dropout}: fractions from 0 on, together below 1"
            )

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The assumption as whole numbers, for the wire; `of_counts` reads them."""
        return round(_MILLION * self.corrupt), round(_MILLION * self.dropout), int(self.split_view), self.grinding

    @classmethod
    def of_counts(cls, corrupt: int, dropout: int, split_view: int, grinding: int) -> "Assumption":
        """Return the assumption. Raises: PrivacyError for numbers that no assumption has."""
        return cls(corrupt / _MILLION, dropout / _MILLION, bool(split_view), grinding)


@dataclass(frozen=True)
class Parameters:
    """The graph's numbers.

    Attributes:
        neighbours: of each member (k).
        threshold: shares that give a secret (t).
        colluders: members that may work with the server, whichever they are (complete graph) or drawn at random.
        dropouts: members that may drop, over all stages.
        complete: every member is every other one's neighbour.
    """

    neighbours: int
    threshold: int
    colluders: int
    dropouts: int
    complete: bool


@lru_cache(maxsize=256)
def parameters(members: int, assumed: Assumption) -> Parameters:
    """Choose the fewest neighbours, and for them the lowest threshold, that meet every bound.

    Args:
        members: of the cohort.
        assumed: fractions of them.

    Raises: PrivacyError where no graph meets the bounds.
    """
    corrupt, dropped = int(assumed.corrupt * members + 1e-9), int(assumed.dropout * members + 1e-9)
    if members >= COMPLETE_BELOW:
        for neighbours in range(2, members - 1, 2):
            threshold = _threshold(members, neighbours, corrupt, dropped, assumed)
            if threshold:
                return Parameters(neighbours, threshold, corrupt, dropped, complete=False)
    neighbours = members - 1
    threshold = neighbours - dropped
    most = 2 * threshold - neighbours - 1 if assumed.split_view else threshold - 1
    if threshold < 1 or most < corrupt or members - corrupt - dropped < 2:
        raise PrivacyError(
            f"{members} members, of which {corrupt} corrupt and {dropped} drop: no threshold protects a member; "
            "assume less, or take a larger cohort or a helper"
        )
    return Parameters(neighbours, threshold, min(most, members - 2), dropped, complete=True)


def _threshold(members: int, neighbours: int, corrupt: int, dropped: int, assumed: Assumption) -> int | None:
    """Return the lowest threshold that meets every bound; None where there is none."""
    gone, split_view = (corrupt + dropped) / members, assumed.split_view
    leak = -(SECURITY + assumed.grinding) * log(2)
    if gone > 0 and log(members) + neighbours / 2 * log(gone) > leak:
        return None
    first = neighbours // 2 + 1 if split_view else 1
    low, high = first, neighbours + 1
    while low < high:  # the bound on corrupt neighbours falls as the threshold grows
        middle = (low + high) // 2
        most = 2 * middle - neighbours if split_view else middle
        if log(members) + tail(members - 1, corrupt, neighbours, most) <= leak:
            high = middle
        else:
            low = middle + 1
    if low > neighbours:
        return None
    survive = members - dropped - 1
    # Fewer than `low` survivors among the neighbours is more than neighbours - low dropped ones.
    late = tail(members - 1, members - 1 - survive, neighbours, neighbours - low + 1)
    return low if log(members) + late <= -CORRECTNESS * log(2) else None


def tail(population: int, marked: int, drawn: int, least: int) -> float:
    """Return log P[X >= least] for the number X of marked ones among `drawn` of a population without replacement."""
    first, last = max(least, drawn - (population - marked), 0), min(drawn, marked)
    whole = _log_choose(population, drawn)
    terms = [
        _log_choose(marked, hits) + _log_choose(population - marked, drawn - hits) - whole
        for hits in range(first, last + 1)
    ]
    top = max(terms, default=-inf)
    return top if top == -inf else min(top + log(sum(exp(term - top) for term in terms)), 0.0)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
