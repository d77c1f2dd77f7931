"""The privacy that releases cost one user, composed on `math` and numpy alone, rounded up.

| releases | composition | source |
|---|---|---|
| Gaussian | exact: squared signal-to-noise 1/z^2 adds up | Balle & Wang 2018, arXiv 1805.06530 |
| with others, e.g. Skellam | Renyi DP at integer orders adds up | Mironov 2017; Canonne et al. 2020, arXiv 2004.00010 |

Adjacency is add-or-remove-one user. Sampling does not lower a cost: a server that chose the cohort knows who took
part. A device pays for its own participation alone. With hidden participation it pays the price of a secret coin in
every round (`fedrec.privacy.discrete.hidden`), whatever the coin: a price that followed the coin would show it.

A `Limit` is a privacy filter: it decides before each release whether (epsilon, delta) still covers it, and stays valid
when runs are chosen after earlier outputs were seen. It has two rules, each at half of delta, so that both together
hold at delta: squared signal-to-noise for Gaussian releases (Smith & Thakurta 2022, arXiv 2210.17520), and Renyi DP at
ONE order that follows from the limit alone (Feldman & Zrnic 2021, arXiv 2008.11193).

Amounts are whole numbers of 1/GRID of their unit, costs rounded up and limits down, so that sums are exact.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedrec.errors import PrivacyError
from fedrec.privacy.discrete import hidden
from fedrec.privacy.discrete.renyi import SkellamEvent, conversion
from fedrec.privacy.gaussian_curve import MARGIN, gaussian_epsilon

GRID = 10**12
CEILING = 10**6 * GRID
"""An amount that counts as infinite: far beyond every limit, far below what an int64 holds."""

ORDERS: tuple[int, ...] = (*range(2, 65), *(2**k + j * 2**k // 8 for k in range(6, 10) for j in range(1, 9)))
"""Renyi orders, whole numbers from 2 to 1024."""

LARGEST_EPSILON = 100.0


@dataclass(frozen=True)
class Cost:
    """The price of one release for a user in it.

    Attributes:
        gaussian: squared signal-to-noise of the Gaussian part, in 1/GRID.
        renyi: Renyi DP of the rest at each of `ORDERS`, in 1/GRID; empty where there is none.
    """

    gaussian: int = 0
    renyi: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.gaussian < 0 or any(value < 0 for value in self.renyi) or len(self.renyi) not in (0, len(ORDERS)):
            raise PrivacyError(f"a cost is at least 0, at {len(ORDERS)} orders or none")

    def __add__(self, other: "Cost") -> "Cost":
        mine, others = (each.renyi or (0,) * len(ORDERS) for each in (self, other))
        both = self.renyi or other.renyi
        return Cost(self.gaussian + other.gaussian, tuple(map(int.__add__, mine, others)) if both else ())

    @classmethod
    def of_gaussians(cls, noise_multipliers: Iterable[float]) -> "Cost":
        """Price Gaussian releases.

        Args:
            noise_multipliers: of each, the standard deviation of the noise in units of the L2 clip.
        Raises: PrivacyError for a release without noise.
        """
        total = 0
        for z in noise_multipliers:
            if not z > 0:
                raise PrivacyError("a release without noise has no price; the run must add noise")
            total += _units(1 / (z * z))
        return cls(min(total, CEILING))

    @classmethod
    def of_renyi(cls, at: Mapping[int, float]) -> "Cost":
        """Price a release by its Renyi DP. Args: at: order -> bound. An order that is left out counts as unbounded."""
        return cls(0, tuple(_units(at.get(order, math.inf)) for order in ORDERS))

    @classmethod
    def of_skellam(cls, event: SkellamEvent) -> "Cost":
        """Price sums of integers with Skellam noise, as the run's own accountant does."""
        return cls.of_renyi({order: event.rdp(order) for order in ORDERS})

    @classmethod
    def of_hidden(cls, events: Iterable[SkellamEvent], sampling: float) -> "Cost":
        """Price one round in which a secret coin decides whether the user contributes.

        Args:
            events: the releases of the round, as if the user contributed.
            sampling: probability of the coin, in (0, 1).
        """
        return cls.of_renyi(dict(zip(ORDERS, map(float, hidden.renyi(events, sampling, ORDERS)), strict=True)))


def _units(value: float) -> int:
    if not value < CEILING // GRID:
        return CEILING
    return math.ceil(value * GRID * (1 + 1e-15))


class Totals:
    """What each of `rows` users has spent.

    Attributes:
        gaussian: (rows,) int64.
        renyi: (orders, rows) int64; None while nothing but Gaussian releases was paid for.
    """

    def __init__(self, rows: int = 0) -> None:
        self.gaussian = np.zeros(rows, dtype=np.int64)
        self.renyi: np.ndarray | None = None

    def widen(self, rows: int) -> None:
        """Make room for users who have spent nothing."""
        more = rows - len(self.gaussian)
        if more > 0:
            self.gaussian = np.pad(self.gaussian, (0, more))
            self.renyi = None if self.renyi is None else np.pad(self.renyi, ((0, 0), (0, more)))

    def add(self, cost: Cost, who: np.ndarray, times: int = 1) -> None:
        """Charge the users `who`, (rows,) bool. times: -1 takes an earlier charge back out of the totals."""
        self.gaussian[who] += times * cost.gaussian
        if cost.renyi:
            if self.renyi is None:
                self.renyi = np.zeros((len(ORDERS), len(self.gaussian)), dtype=np.int64)
            self.renyi[:, who] += times * np.array(cost.renyi, dtype=np.int64)[:, None]

    def epsilons(self, delta: float) -> np.ndarray:
        """Compute (rows,) float64, each user's epsilon at `delta`, rounded up."""
        if self.renyi is None or not self.renyi.any():
            values, back = np.unique(self.gaussian, return_inverse=True)
            return np.array([epsilon(Cost(int(value)), delta) for value in values])[back]
        both = np.vstack([self.gaussian, self.renyi])
        columns, back = np.unique(both, axis=1, return_inverse=True)
        costs = [Cost(int(column[0]), tuple(map(int, column[1:]))) for column in columns.T]
        return np.array([epsilon(cost, delta) for cost in costs])[np.ravel(back)]


def epsilon(cost: Cost, delta: float) -> float:
    """Compute epsilon at `delta` of releases that cost this together, rounded up; infinite where nothing bounds it."""
    if not any(cost.renyi):
        return gaussian_epsilon(cost.gaussian / GRID * (1 + 1e-15), delta) if cost.gaussian < CEILING else math.inf
    spent = (
        (order * cost.gaussian / 2 + rest) / GRID + conversion(order, delta) if rest < CEILING else math.inf
        for order, rest in zip(ORDERS, cost.renyi, strict=True)
    )
    return max(0.0, min(spent)) * (1 + MARGIN)


@dataclass(frozen=True)
class Limit:
    """The most that all releases together may cost a user: a filter, see above.

    Raises: PrivacyError for an epsilon outside (0, 100], or a delta outside (0, 1).
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= LARGEST_EPSILON:
            raise PrivacyError(f"a limit's epsilon must lie in (0, {LARGEST_EPSILON:g}], got {self.epsilon}")
        if not 1e-30 <= self.delta < 1:
            raise PrivacyError(f"a limit's delta must lie in [1e-30, 1), got {self.delta}")

    @cached_property
    def gaussian(self) -> int:
        """The most squared signal-to-noise, in 1/GRID, rounded down."""
        low, high = 0, GRID
        while gaussian_epsilon(high / GRID, self.delta / 2) <= self.epsilon:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            fits = gaussian_epsilon(middle / GRID, self.delta / 2) <= self.epsilon
            low, high = (middle, high) if fits else (low, middle)
        return low

    @cached_property
    def order(self) -> int:
        """The order of the Renyi rule: the one that lets most Gaussian releases pass."""
        return max(ORDERS, key=lambda order: (self.epsilon - conversion(order, self.delta / 2)) / order)

    @cached_property
    def renyi(self) -> int:
        """The most Renyi DP at `order`, in 1/GRID, rounded down; 0 where nothing is left."""
        return max(0, math.floor((self.epsilon - conversion(self.order, self.delta / 2)) * GRID * (1 - 1e-12)))

    def allows(self, spent: Totals, cost: Cost) -> np.ndarray:
        """Return (rows,) bool: whose limit still covers this release after what was spent."""
        after = spent.gaussian + min(cost.gaussian, CEILING)
        if spent.renyi is None and not cost.renyi:
            return after <= self.gaussian
        place = ORDERS.index(self.order)
        rest = np.zeros_like(after) if spent.renyi is None else spent.renyi[place]
        rest = rest + (min(cost.renyi[place], CEILING) if cost.renyi else 0)
        others = any(cost.renyi) | (spent.renyi is not None and spent.renyi.any(axis=0))
        by_order = -(-self.order * np.minimum(after, CEILING // self.order) // 2) + rest <= self.renyi
        return np.where(others, by_order, (after <= self.gaussian) | by_order)

    def share(self, spent: Totals) -> np.ndarray:
        """Return (rows,) float64: the part of the limit that each user has used, 1 where nothing is left."""
        gaussian = spent.gaussian / self.gaussian
        if spent.renyi is None:
            return np.minimum(gaussian, 1.0)
        by_order = (self.order * spent.gaussian / 2 + spent.renyi[ORDERS.index(self.order)]) / max(1, self.renyi)
        return np.minimum(np.where(spent.renyi.any(axis=0), by_order, gaussian), 1.0)
