"""Correlated noise in the rounds of a plan: streams, their cohorts, prices and noise (`factor` has the proof).

A stream is what the run card lists as one group: consecutive rounds that ask exactly the same queries, at least two of
them. Its step t asks the users of block t mod b. Every other round is a release of its own: it asks everybody, has
independent noise, and is scaled to the expected cohort, so that all rounds have one public denominator. Scaling is
post-processing.

| round | cohort | noise | sensitivity of the step |
|---|---|---|---|
| step t of a stream | block t mod b | y_t = s (z_t - c_1 y_{t-1} / s - ...) | c_{t mod b} clips |
| alone | everybody | independent | 1 clip |

Several queries of a round have the same factor: the step's squared signal-to-noise is the sum over queries of
(c / multiplier)^2. Rounded noise is post-processing, too: the sum is a whole number of lattice steps, so adding noise
that is rounded to steps gives the rounded sum of both.

**Noise is never used for a second sum.** A stream begins anew, with noise that is independent of all earlier noise,
when a round is charged again and when a run without a seed is resumed. The earlier noise is in the memory of one
process alone; no key and no noise is written to disk, and the steps from there on are charged as a new stream's. They
cost nothing more where the new begin is a multiple of b steps after the old one, and otherwise at most what one
participation costs, and one step more where a round was charged again. A seeded run repeats its noise and its sums.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedrec.charge import Banded
from fedrec.errors import PrivacyError
from fedrec.privacy.accounting import Event
from fedrec.privacy.banded.blocks import blocks
from fedrec.privacy.banded.factor import Factor, optimal
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.noise import BLOCK, NoiseSource
from fedrec.privacy.queries import PrivateSum, SumQuery

MOST_BYTES = 8 << 30
"""Memory for the earlier noise of a run's streams."""

Row = tuple[int, int]
"""A round, and which release of it."""


@dataclass(frozen=True)
class Stream:
    """Consecutive rounds with the same queries: the first round, and the factor."""

    first: int
    factor: Factor


@dataclass
class _Past:
    """The noise of the steps so far of one query, newest last: at most b - 1 vectors (size,) float64."""

    rows: list[Row] = field(default_factory=list)
    noise: list[np.ndarray] = field(default_factory=list)


class BandedNoise:
    """The streams of a plan.

    Args:
        config: the privacy settings, with `noise = "banded"`.
        rounds: the queries of every round by name.
        users: the public size of the population.
        label: public text that the blocks follow from.
        factor: t of the plan: a query with budget share f has noise t / sqrt(f) in a round alone.

    Raises: PrivacyError where no round follows another one with the same queries, or a stream is too short.
    """

    def __init__(
        self, config: PrivacyConfig, rounds: Sequence[Mapping[str, SumQuery]], users: int, label: str, factor: float
    ) -> None:
        if config.separation is None or config.trust != "central" or not config.private:
            raise PrivacyError("correlated noise needs privacy.separation, an epsilon, and trust model central")
        self.separation, self.rounds, self.factor = config.separation, rounds, factor
        self._blocks = blocks(users, self.separation, label)
        self._streams: list[Stream | None] = []
        for first, length in _groups(rounds):
            if 1 < length < self.separation:
                raise PrivacyError(
                    f"rounds {first} to {first + length - 1} ask the same queries, fewer rounds than "
                    f"privacy.separation = {self.separation}; lower it, or leave out what comes between the rounds"
                )
            stream = Stream(first, optimal(length, self.separation)) if length > 1 else None
            self._streams += [stream] * length
        if not any(self._streams):
            raise PrivacyError(
                "privacy.noise = 'banded': no two rounds in a row ask the same queries, so there is no stream of sums "
                "to correlate noise in; set privacy.noise = 'independent'"
            )
        kept = {
            query.name: query.size
            for place, queries in enumerate(rounds)
            if self._streams[place]
            for query in queries.values()
        }
        needed = 8 * self.separation * sum(kept.values())
        if needed > MOST_BYTES:
            raise PrivacyError(
                f"correlated noise keeps {self.separation} rounds of noise, {needed / 2**30:.1f} GiB, more than "
                f"{MOST_BYTES >> 30} GiB; lower privacy.separation"
            )
        self._anew: set[int] = set()
        self._past: dict[str, _Past] = {}

    def stream(self, round_index: int) -> Stream | None:
        """Return the stream of a round; None for a round alone."""
        return self._streams[round_index]

    def cohort(self, round_index: int) -> np.ndarray:
        """Return the positions of a round's users, int64, ascending."""
        stream = self.stream(round_index)
        if stream is None:
            return np.arange(len(self._blocks))
        return np.flatnonzero(self._blocks == (round_index - stream.first) % self.separation)

    def participation(self, charged: Sequence[int]) -> tuple[float, int]:
        """Return in how many of these rounds a user takes part: expected, and at most. A repeated round counts twice.

        Args:
            charged: rounds in the order of their charges.
        """
        alone, expected = 0, 0.0
        blocks: Counter[tuple[int, int]] = Counter()
        for each in charged:
            if (stream := self.stream(each)) is None:
                alone += 1
            else:
                blocks[stream.first, (each - stream.first) % self.separation] += 1
                expected += 1 / self.separation
        firsts = {first for first, _ in blocks}
        most = sum(max(times for (one, _), times in blocks.items() if one == first) for first in firsts)
        return alone + expected, alone + most

    def multiplier(self, round_index: int, query: SumQuery) -> float:
        """Return s, the scale of a query's noise in clips: its standard deviation in the first step, or in a round
        alone. A stream has the signal-to-noise that the shares of all its rounds allow together."""
        alone, stream = self.factor / math.sqrt(query.budget_share), self.stream(round_index)
        if stream is None:
            return alone
        return alone * stream.factor.sensitivity / math.sqrt(stream.factor.steps)

    def terms(self, round_index: int) -> Banded | None:
        """Return the correlation as a charge records it; None for a round alone."""
        stream = self.stream(round_index)
        if stream is None:
            return None
        return Banded(separation=self.separation, coefficients=[repr(c) for c in stream.factor.coefficients])

    def steps(self, charged: Sequence[int], anew: Collection[int] | None = None) -> list[int | None]:
        """Return the step of each charge since its stream began, from 0; None for a round alone.

        Args:
            charged: rounds in the order of their charges.
            anew: places in it at which a stream begins though it could continue; None for those that are known.
        """
        known, found = self._anew if anew is None else anew, list[int | None]()
        for place, each in enumerate(charged):
            stream = self.stream(each)
            if stream is None:
                found.append(None)
                continue
            before = charged[place - 1] if place else -1
            continues = before == each - 1 and before >= stream.first and place not in known
            found.append((found[-1] or 0) + 1 if continues else 0)
        return found

    def restored(self, charged: Sequence[int], steps: Sequence[int | None], *, anew: bool) -> None:
        """Take up the steps of an earlier process.

        Args:
            charged: rounds in the order of their charges.
            steps: of each charge, as the ledger has them.
            anew: begin the next charge's stream anew, since this process cannot draw the earlier noise again.
        """
        natural = self.steps(charged, ())
        self._anew = {place for place, step in enumerate(steps) if step == 0 != natural[place]}
        if self.steps(charged) != list(steps):
            raise PrivacyError("the ledger's charges are not steps of this run's streams; restore the ledger")
        if anew:
            self._anew.add(len(charged))
        self._past.clear()

    def events(self, charged: Sequence[int], anew: Collection[int] | None = None) -> list[Event]:
        """Return the Gaussian event of each charge; none for a step of sensitivity 0.

        Args:
            charged: rounds in the order of their charges.
            anew: as in `steps`.
        """
        steps = self.steps(charged, anew)
        return [event for each, step in zip(charged, steps, strict=True) for event in self._event(each, step)]

    def last(self, charged: Sequence[int]) -> list[Event]:
        """Return the event of the last charge, if any. charged: rounds in the order of their charges."""
        return self._event(charged[-1], self.steps(charged)[-1])

    def _event(self, round_index: int, step: int | None) -> list[Event]:
        stream = self.stream(round_index)
        precision = math.fsum(self.multiplier(round_index, query) ** -2 for query in self.rounds[round_index].values())
        shift = 1.0 if stream is None or step is None else stream.factor.shift(step)
        return [Event(1.0, 1 / (math.sqrt(precision) * shift))] if precision and shift else []

    def spread(self, round_index: int, step: int | None = None) -> float:
        """Return the standard deviation of a step's noise in units of s; of the widest step where none is given."""
        stream = self.stream(round_index)
        if stream is None:
            return 1.0
        return float(stream.factor.spread[-1 if step is None else step])

    def normals(
        self, source: NoiseSource, round_index: int, query: SumQuery, charged: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """Return a step's noise y / s, in blocks of `BLOCK` numbers.

        Args:
            source: the secret randomness, of which each release of each round is used once.
            round_index: position of the round, whose last charge this release uses.
            query: the query.
            charged: rounds in the order of their charges.
        """
        last = len(charged) - 1 - charged[::-1].index(round_index)
        step = self.steps(charged)[last]
        times, rows = Counter(charged[: last - (step or 0)]), list[Row]()
        for each in charged[last - (step or 0) : last + 1]:
            times[each] += 1
            rows.append((each, times[each]))
        if step is None:
            return source.normal_blocks(round_index, query.name, query.size, rows[-1][1])
        past = self._past.get(query.name)
        if past is None or past.rows != rows[:-1]:
            past = self._past[query.name] = _Past()
        for row in rows[len(past.rows) :]:
            self._add(past, row, source, query, self._coefficients(round_index))
        made = past.noise[-1]
        return (made[start : start + BLOCK] for start in range(0, query.size, BLOCK))

    def released(self, release: PrivateSum, round_index: int, charged: Sequence[int]) -> PrivateSum:
        """Return a release with the standard deviation of its noise, scaled to the expected cohort."""
        if self.stream(round_index) is None:
            return PrivateSum(release.value / self.separation, release.noise_std / self.separation)
        last = len(charged) - 1 - charged[::-1].index(round_index)
        return PrivateSum(release.value, release.noise_std * self.spread(round_index, self.steps(charged)[last]))

    def _coefficients(self, round_index: int) -> tuple[float, ...]:
        stream = self.stream(round_index)
        assert stream is not None
        return stream.factor.coefficients

    def _add(
        self, past: _Past, row: Row, source: NoiseSource, query: SumQuery, coefficients: tuple[float, ...]
    ) -> None:
        """Solve for the noise of one more step; the order of the operations is fixed, so that its bits are."""
        made, start = np.empty(query.size), 0
        for normals in source.normal_blocks(row[0], query.name, query.size, row[1]):
            end = start + len(normals)
            made[start:end] = normals
            for coefficient, earlier in zip(coefficients[1:], reversed(past.noise), strict=False):
                made[start:end] -= coefficient * earlier[start:end]
            start = end
        past.rows.append(row)
        past.noise = [*past.noise, made][-max(1, len(coefficients) - 1) :]


def _groups(rounds: Sequence[Mapping[str, SumQuery]]) -> Iterator[tuple[int, int]]:
    """Yield first round and length of each group of consecutive rounds with the same queries."""
    first = 0
    for place in range(1, len(rounds) + 1):
        if place == len(rounds) or rounds[place] != rounds[first] or not rounds[place]:
            yield first, place - first
            first = place
