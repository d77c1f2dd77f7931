"""Recomputed epsilon, from the events in a ledger alone, by code that training does not use.

Every event is a Gaussian release on a Poisson sample of the users (sampling probability q, noise multiplier z), as
seen by an observer of all releases; adjacency is add-or-remove-one, and the worse direction counts.

- Full participation (q = 1): the exact curve of Balle & Wang (2018), at mu^2 = sum of 1/z^2.
- Sampling: the privacy loss is rounded to a grid so that its mean stays, and composed by Fourier transform, as in
  Gopi, Lee & Wutschitz (2021). Training uses another method (dominating pairs by connected dots).
- Renyi: the moments by quadrature, at a fine net of orders, turned into epsilon by the rule of Canonne, Kamath &
  Steinke (2020). Training uses the binomial series.

Nothing here imports `fedrec.privacy`, Opacus or dp-accounting. Precision: exact for full participation; otherwise
about 0.1 % of epsilon, plus one step of the grid (`Curve.step`).

The events may come from an attacker, so the work is estimated before anything is allocated. Memory and time are bounded
for any events. A grid has at most `MOST_POINTS` points, and fewer places are recomputed on a large one. High Renyi
orders that need too fine a net are left out, which leaves an upper bound. `TooCostly` refuses the rest. Runs with an
epsilon of at most 100 reach none of these bounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import log_ndtr, logsumexp, ndtr

Event = tuple[float, float, int]
"""Sampling probability in (0, 1], noise multiplier > 0, count >= 1."""

LARGEST_SAMPLED_ORDER = 1024.0
LEAST_MULTIPLIER = 0.01
"""Less noise on sampled users belongs to an epsilon far above 1000, and needs nets of billions of points."""
LARGEST_EPSILON = 600.0
"""Exponentials of larger losses leave the range of a float64."""
MOST_KINDS = 64
"""Kinds of sampled events, after rounding."""
MOST_POINTS = 2**20
"""Points of all kinds' grids together."""
MOST_WORK = 2**25
"""Points of a grid times places at which it is read."""
_MOST_DISTINCT = 32
_TAIL = 1e-6  # probability outside the grid, in parts of delta
_NET = 2**21  # points of the Renyi moments' nets for one order, all kinds together


class TooCostly(ValueError):
    """Events whose epsilon cannot be recomputed within bounded memory and time."""


def gaussian_epsilon(mu: np.ndarray, delta: float) -> np.ndarray:
    """Compute the exact epsilon of Gaussian releases with total signal-to-noise `mu`, elementwise; 0 for mu = 0."""
    mu = np.asarray(mu, dtype=float)
    low, high = np.zeros_like(mu), mu * (mu / 2 + math.sqrt(2 * math.log(1 / delta))) + 1e-12
    safe = np.where(mu > 0, mu, 1.0)
    for _ in range(80):
        middle = (low + high) / 2
        upper = log_ndtr(safe / 2 - middle / safe)
        lower = middle + log_ndtr(-safe / 2 - middle / safe)
        over = np.exp(upper) * -np.expm1(np.minimum(lower - upper, 0)) > delta
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return np.where(mu > 0, high, 0.0)


@dataclass(frozen=True)
class Curve:
    """Cumulative epsilon after some of the rounds.

    Attributes:
        places: numbers of rounds.
        step: width of the grid, 0 for an exact result.
    """

    places: np.ndarray
    epsilon: np.ndarray
    step: float


def curve(rounds: Sequence[Sequence[Event]], delta: float, places: Sequence[int] | None = None) -> Curve:
    """Compute epsilon after the first n rounds, for n in `places` (ascending; used for sampled events only).

    Full participation alone is computed at every round. If all places would take too long, fewer are computed, the last
    among them.

    Args:
        rounds: the events of each round.
        delta: the delta of epsilon.
        places: numbers of rounds, ascending; None for all.

    Raises:
        TooCostly: when the events need too fine a grid.
    """
    every = np.arange(1, len(rounds) + 1)
    if all(q == 1 for events in rounds for q, _, _ in events):
        squares = np.cumsum([math.fsum(count / z**2 for _, z, count in events) for events in rounds])
        return Curve(every, gaussian_epsilon(np.sqrt(squares), delta), 0.0)
    kinds, counts = _counted(rounds)
    grid = _Grid.over(kinds, counts[-1], delta)
    wanted = _thinned(every if places is None else np.asarray(places), MOST_WORK // grid.size)
    worst = np.zeros(len(wanted))
    for remove in (True, False):
        pieces = [grid.transformed(q, z, remove) for q, z in kinds]
        logs, shift = np.zeros(len(pieces[0][0]), dtype=complex), 0.0
        before = np.zeros(len(kinds), dtype=int)
        for number, place in enumerate(wanted):
            for kind in np.flatnonzero(counts[place - 1] - before):
                more = counts[place - 1][kind] - before[kind]
                logs = logs + more * pieces[kind][0]
                shift += more * pieces[kind][1]
            before = counts[place - 1]
            worst[number] = max(worst[number], grid.epsilon(logs, shift, delta))
    return Curve(wanted, worst, grid.step)


def deltas(rounds: Sequence[Sequence[Event]], epsilons: Sequence[float], delta: float) -> tuple[np.ndarray, float]:
    """Compute the delta of all rounds together at each of `epsilons`, and the step of the grid in epsilon.

    Args:
        rounds: the events of each, some of them on sampled users.
        epsilons: (n,) not negative.
        delta: smallest delta of interest; far below it the result is not exact.

    Raises:
        TooCostly: when the events need too fine a grid.
    """
    kinds, counts = _counted(rounds)
    grid = _Grid.over(kinds, counts[-1], delta)
    at = np.asarray(epsilons, dtype=float)
    worst = np.zeros(len(at))
    for remove in (True, False):
        pieces = [grid.transformed(q, z, remove) for q, z in kinds]
        logs = sum(int(count) * piece[0] for count, piece in zip(counts[-1], pieces, strict=True))
        shift = math.fsum(int(count) * piece[1] for count, piece in zip(counts[-1], pieces, strict=True))
        worst = np.maximum(worst, grid.deltas(np.asarray(logs), shift, at))
    return worst, grid.step


def renyi_curve(rounds: Sequence[Sequence[Event]], delta: float) -> Curve:
    """Compute cumulative epsilon by Renyi DP after each round, an upper bound on the true one.

    Raises:
        TooCostly: when the events have too many kinds of noise, or too little noise.
    """
    plain = np.cumsum([math.fsum(count / z**2 for q, z, count in events if q == 1) for events in rounds])
    kinds, counts = _counted([[event for event in events if event[0] < 1] for events in rounds])
    orders = 1 + np.geomspace(0.01, 1e6, 600)
    per_kind = np.array([_renyi(q, z, orders, _NET // len(kinds)) for q, z in kinds]).reshape(len(kinds), len(orders))
    best = np.full(len(rounds), np.inf)
    gain = np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    usable = np.isfinite(per_kind).all(axis=0)
    for order in np.flatnonzero(usable):
        best = np.minimum(best, plain * orders[order] / 2 + counts @ per_kind[:, order] + gain[order])
    begun = np.cumsum([len(events) for events in rounds]) > 0
    return Curve(np.arange(1, len(rounds) + 1), np.where(begun, np.maximum(best, 0), 0.0), 0.0)


def require_bounded(events: Sequence[Event], delta: float) -> None:
    """Check that `curve` accepts these events, before anything large is allocated.

    Raises:
        TooCostly: when it refuses them.
    """
    sampled = [event for event in events if event[0] < 1]
    if sampled:
        kinds, counts = _counted([sampled])
        _Grid.over(kinds, counts[-1], delta)


def _thinned(places: np.ndarray, most: int) -> np.ndarray:
    """Return at most about `most` of the places, evenly, the last among them."""
    every = math.ceil(len(places) / max(most, 2))
    return places[::-1][::every][::-1]


def _counted(rounds: Sequence[Sequence[Event]]) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Return the kinds of events, and the number of each up to each round, (rounds, kinds).

    Above a few dozen kinds, sampled multipliers are rounded down by at most 0.1 %, which overstates epsilon a little.
    Raises: TooCostly.
    """
    distinct = {(q, z) for events in rounds for q, z, _ in events}
    least = min((z for q, z in distinct if q < 1), default=math.inf)
    if least < LEAST_MULTIPLIER:
        raise TooCostly(f"a noise multiplier of {least:g} with sampling is below {LEAST_MULTIPLIER}")
    if len(distinct) > _MOST_DISTINCT:
        rounded = {(q, z): (q, math.exp(math.floor(math.log(z) * 1000) / 1000)) for q, z in distinct}
    else:
        rounded = {kind: kind for kind in distinct}
    kinds = sorted(set(rounded.values())) or [(1.0, math.inf)]
    if len(kinds) > MOST_KINDS:
        raise TooCostly(f"there are {len(kinds):,} kinds of sampled noise, more than {MOST_KINDS}")
    column = {kind: number for number, kind in enumerate(kinds)}
    counts = np.zeros((len(rounds), len(kinds)), dtype=int)
    for number, events in enumerate(rounds):
        for q, z, count in events:
            counts[number, column[rounded[q, z]]] += count
    return kinds, counts.cumsum(axis=0)


def renyi(events: Sequence[Event], order: float) -> float:
    """Compute the Renyi divergence of all events together at one order; infinite if it needs too fine a net."""
    return math.fsum(count * float(_renyi(q, z, np.array([order]))[0]) for q, z, count in events)


def _renyi(q: float, z: float, orders: np.ndarray, most: int = _NET) -> np.ndarray:
    """Compute the divergence at each order a: log E[(1 - q + q e^((2x - 1) / 2 z^2))^a] / (a - 1), x ~ N(0, z^2).

    Infinite for an order whose net would have more than `most` points.
    """
    if q == 1 or math.isinf(z):
        return orders / (2 * z**2)
    found = np.full(len(orders), np.inf)
    step = min(z / 10, z**2 / 4)
    for number in np.flatnonzero((orders <= LARGEST_SAMPLED_ORDER) & (orders + 24 * z <= most * step)):
        order = orders[number]
        x = np.arange(-12 * z, order + 12 * z, step)
        terms = order * _loss(q, z, x) - x**2 / (2 * z**2)
        moment = logsumexp(terms) + math.log(step) - math.log(z * math.sqrt(2 * math.pi))
        found[number] = max(0.0, moment) / (order - 1)
    return found


def _loss(q: float, z: float, x: np.ndarray) -> np.ndarray:
    """Compute the privacy loss of "one user more" at the outcome x."""
    plain = (2 * x - 1) / (2 * z**2)
    return plain if q == 1 else np.logaddexp(math.log1p(-q), math.log(q) + plain)


@dataclass(frozen=True)
class _Grid:
    """Losses on `size` points of width `step`, centred at 0."""

    step: float
    size: int

    @classmethod
    def over(cls, kinds: Sequence[tuple[float, float]], counts: np.ndarray, delta: float) -> "_Grid":
        """Choose a grid so wide that at most `_TAIL` of delta is outside (Chernoff), with steps far below one loss."""
        orders = 1 + np.geomspace(0.02, 500, 40)
        net = _NET // len(kinds)
        renyi = sum(count * _renyi(q, z, orders, net) for (q, z), count in zip(kinds, counts, strict=True))
        width = float(np.min(renyi - (math.log(_TAIL) + math.log(delta)) / (orders - 1)))
        variance = sum(count * _moments(q, z, True)[1] for (q, z), count in zip(kinds, counts, strict=True))
        step = 0.05 * math.sqrt(variance / counts.sum())
        if not (0 < width <= LARGEST_EPSILON and step > 0):
            raise TooCostly(f"epsilon is not between 0 and {LARGEST_EPSILON:g}")
        size = next_fast_len(int(min(max(2 * width / step, 2**13), MOST_POINTS // len(kinds))) + 2, real=True)
        return cls(2 * width / (size - 2), size)

    @property
    def points(self) -> np.ndarray:
        """The losses, ascending."""
        return (np.arange(self.size) - self.size // 2) * self.step

    def transformed(self, q: float, z: float, remove: bool) -> tuple[np.ndarray, float]:
        """Return the logarithm of the transform of one event's rounded loss, and the rounding error of its mean."""
        edges = (np.arange(self.size + 1) - self.size // 2 - 0.5) * self.step
        reached = _below(q, z, edges if remove else -edges, remove)
        mass = np.abs(np.diff(reached))
        mass[0] += min(reached[0], 1 - reached[0])
        mass[-1] += min(reached[-1], 1 - reached[-1])
        mean = _moments(q, z, remove)[0]
        transform = rfft(np.roll(mass, -(self.size // 2)))
        transform[transform == 0] = 1e-300  # its logarithm must be finite
        return np.log(transform), mean - float(mass @ self.points)

    def deltas(self, logs: np.ndarray, shift: float, epsilons: np.ndarray) -> np.ndarray:
        """Compute delta of the composed loss at each epsilon (n,)."""
        losses, mass = self._above_zero(logs, shift)
        above = np.append(np.cumsum(mass[::-1])[::-1], 0.0)
        weighted = np.append(np.cumsum((mass * np.exp(-losses))[::-1])[::-1], 0.0)
        first = np.searchsorted(losses, epsilons, side="right")
        found: np.ndarray = above[first] - np.exp(np.minimum(epsilons, LARGEST_EPSILON)) * weighted[first]
        return found.clip(min=0.0)

    def _above_zero(self, logs: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the composed losses above 0, ascending, and their masses."""
        first = math.floor(-shift / self.step) + 1  # the lowest loss above 0, in steps of the grid
        mass = np.roll(irfft(np.exp(logs), self.size), -first)[: max(self.size // 2 - first, 0)]
        return (first + np.arange(len(mass))) * self.step + shift, np.maximum(mass, 0)

    def epsilon(self, logs: np.ndarray, shift: float, delta: float) -> float:
        """Compute epsilon of the composed loss, never below 0."""
        losses, mass = self._above_zero(logs, shift)
        above = np.cumsum(mass[::-1])[::-1]
        weighted = np.cumsum((mass * np.exp(-losses))[::-1])[::-1]
        # Between two losses, the sums over those above decide; delta(epsilon) falls, so the place is found by halving.
        low, high = 0, len(losses)
        while low < high:
            middle = (low + high) // 2
            start = losses[middle - 1] if middle else 0.0
            if above[middle] - math.exp(start) * weighted[middle] <= delta:
                high = middle
            else:
                low = middle + 1
        if low == 0:
            return 0.0
        over, under = above[low - 1] - delta, weighted[low - 1]
        return max(0.0, math.log(over / under)) if over > 0 and under > 0 else 0.0


def _below(q: float, z: float, losses: np.ndarray, remove: bool) -> np.ndarray:
    """Compute P(loss <= each) for x from the mixture (remove), or from the noise alone."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inner = np.log1p(-(1 - q) * np.exp(-losses)) if q < 1 else 0.0
        x = z**2 * (losses + inner - math.log(q)) + 0.5
    x = np.where(np.isnan(x), -np.inf, x)
    found: np.ndarray = (1 - q) * ndtr(x / z) + q * ndtr((x - 1) / z) if remove else ndtr(x / z)
    return found


def _moments(q: float, z: float, remove: bool) -> tuple[float, float]:
    """Compute mean and variance of one event's loss, by quadrature."""
    step = min(z / 20, z**2 / 8)
    x = np.arange(-14 * z, 1 + 14 * z, step)
    plain = np.exp(-(x**2) / (2 * z**2)) * step / (z * math.sqrt(2 * math.pi))
    shifted = np.exp(-((x - 1) ** 2) / (2 * z**2)) * step / (z * math.sqrt(2 * math.pi))
    weight = (1 - q) * plain + q * shifted if remove else plain
    loss = _loss(q, z, x) if remove else -_loss(q, z, x)
    mean = float(weight @ loss)
    return mean, float(weight @ (loss - mean) ** 2)
