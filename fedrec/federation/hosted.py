"""The computation of the users of one place in a round: batches within memory bounds, contribute, clip, sum.

The place may be a whole simulation, a hospital, or a phone with a single user; all run this code. Memory is bounded for
any number of users: a chunk has at most `batch_users` users and about `batch_events` events. Sums are exact integers
(`fedrec.privacy.fixed_point`) of contributions that depend on their users alone (`fedrec.rowwise`). So order, chunks,
threads and places do not change a bit of them. No noise is added here, so only the trusted party may receive the sums.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared, layers
from fedrec.data.users import UserBatch
from fedrec.devices import wait_for
from fedrec.errors import PrivacyError
from fedrec.plugins import is_own
from fedrec.precision import Precision, users_precision
from fedrec.privacy.clipping import measured
from fedrec.privacy.fixed_point import USERS_AT_ONCE, check_room
from fedrec.privacy.integers import ExactIntegers, Integers
from fedrec.privacy.queries import Contribution, SumQuery
from fedrec.progress import step
from fedrec.rowwise import rowwise

_CHECKED = 8  # chunks after which totals are looked at; the clip bounds them, only a run without one can fail

Clip = Callable[[SumQuery, Contribution], Tensor]
"""Weights (B,) float64 that bound each user's whole contribution to a query."""


class UserSource(Protocol):
    """A source of batches of users: `Histories`, or users generated on demand."""

    def __len__(self) -> int: ...

    def batch(self, users: np.ndarray, seed: int, device: torch.device | str = "cpu") -> UserBatch:
        """The users at these positions as tensors on `device`."""
        ...

    def keys(self, users: np.ndarray, seed: int) -> Tensor:
        """The keys of their batch, (B,) int64."""
        ...


class Stopwatch:
    """A clock of named phases. On CUDA it waits for the device at every lap, so that the parts are true."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap to `phase`."""
        wait_for(self._device)
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


class HostedUsers:
    """All users of `source`, computed for in one process.

    seed: the users' own randomness (local negatives), which privacy does not rest on.
    batch_users, batch_events: upper bounds of one chunk (a user with more events than that is a chunk alone).
    memory_bytes: what all devices together may remember between rounds; the rest forget, and compute again. What
    devices remember is one algorithm's: other users for another algorithm. precision: of the users' matrix products;
    norms, sums and noise are not touched.
    """

    def __init__(
        self,
        source: UserSource,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        batch_users: int = 1024,
        batch_events: int = 250_000,
        memory_bytes: int = 512 << 20,
        precision: Precision = "float32",
    ) -> None:
        self.source, self.seed = source, seed
        self.device = torch.device(device)
        self.batch_users, self.batch_events = min(batch_users, USERS_AT_ONCE), batch_events
        self.memory_bytes, self.precision = memory_bytes, precision
        self._kept: dict[tuple[int, int], list[UserBatch]] = {}

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.source)

    def chunks(self, cohort: np.ndarray, lasting: bool | None = None) -> Iterator[UserBatch]:
        """The cohort in order, cut into batches within the bounds.

        When everybody takes part, every round has the same chunks: what their devices remember is kept, up to
        `memory_bytes`. The memory of an algorithm's devices saves time and never changes a result.

        Args:
            cohort: positions in `source`, ascending.
            lasting: whether other rounds have the same cohort, which its length then identifies; None: of everybody.
        """
        lasting = len(cohort) == self.users if lasting is None else lasting
        held = sum(map(_bytes, self._kept.values()))
        for start in range(0, len(cohort), self.batch_users):
            place = len(cohort), start
            chunks = self._kept.pop(place, None) if lasting else None
            if chunks is None:
                chunks = list(
                    self._cut(self.source.batch(cohort[start : start + self.batch_users], self.seed, self.device))
                )
            else:
                held -= _bytes(chunks)
            yield from chunks
            if lasting and held + (size := _bytes(chunks)) <= self.memory_bytes:
                self._kept[place] = chunks
                held += size

    def clipped_sums(
        self,
        algorithm: Algorithm,
        shared: Shared,
        round_index: int,
        cohort: np.ndarray,
        clip: Clip,
        watch: Stopwatch,
        integers: Integers | None = None,
    ) -> dict[str, Tensor]:
        """Each query of the round, summed over the cohort's clipped contributions, WITHOUT noise.

        Args:
            cohort: positions in `source`, ascending.
            integers: encodes the contributions; None for steps of the query's fine lattice.
        Returns: int64 totals by the query's name.
        Raises: PrivacyError when the cohort is not ascending (a user who stands in it twice adds twice the clip), names
        a user who is not there, or has more users than the run's population; and when users add more than exact sums
        hold, which the clip rules out.
        """
        if np.any(np.diff(cohort) <= 0):
            raise PrivacyError(f"round {round_index}: the cohort is not ascending; take each user once, in order")
        if len(cohort) and not 0 <= cohort[0] <= cohort[-1] < self.users:
            raise PrivacyError(
                f"round {round_index}: the cohort names a user outside 0..{self.users - 1}; sample from those"
            )
        population = algorithm.facts.users
        if len(cohort) > population:
            raise PrivacyError(
                f"round {round_index}: {len(cohort)} users in a population of {population}; declare them all"
            )
        queries, ours = algorithm.queries(round_index), all(is_own(type(each)) for each in layers(algorithm))
        made = ExactIntegers(population) if integers is None else integers
        totals = {query.name: made.zeros(query, round_index, self.device) for query in queries}
        everybody = len(cohort) == self.users
        adds = algorithm.adds(self.source.keys(cohort, self.seed), round_index)
        if adds is not None:
            cohort = cohort[adds.numpy()]
            self._forget(len(cohort))
        for number, users in enumerate(_counted(self.chunks(cohort, everybody), len(cohort))):
            watch.lap("load")
            with users_precision(self.precision, self.device), rowwise(self.device):
                contributions = algorithm.contribute(shared, users, round_index)
            watch.lap("contribute")
            if contributions.keys() != {query.name for query in queries}:
                raise ValueError(
                    f"{algorithm.name}: round {round_index} asks for {queries}, users gave {set(contributions)}"
                )
            for query in queries:
                # Taken out of the dictionary, so that one query's parts are freed before the next one is summed.
                given = contributions.pop(query.name)
                own = is_own(type(given)) and ours
                contribution = measured(given, len(users), query.shape, own=own)
                with rowwise(self.device):
                    weights = clip(query, contribution)
                watch.lap("clip")
                with rowwise(self.device):
                    made.add(totals[query.name], query, round_index, contribution, weights, users.keys)
                if number % _CHECKED == 0:
                    check_room(totals[query.name])
                watch.lap("sum")
        for total in totals.values():
            check_room(total)
        return totals

    def _forget(self, users: int) -> None:
        """Make room for a cohort of so many users: what others remember is of earlier rounds."""
        self._kept = {place: chunks for place, chunks in self._kept.items() if place[0] == users}

    def _cut(self, batch: UserBatch) -> Iterator[UserBatch]:
        ends = batch.offsets[1:].cpu().numpy()
        first = 0
        while first < len(batch):
            base = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, base + self.batch_events, side="right")))
            yield batch if last - first == len(batch) else batch.slice(first, last)
            first = last


def shard(users: int, place: int, of: int) -> np.ndarray:
    """Positions of the users of shard `place` of `of`, int64: in order, and as even as can be."""
    return np.arange(users * place // of, users * (place + 1) // of)


def add_up(parts: Sequence[Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Add the exact sums (int64) of several places."""
    if len(parts) == 1:  # as it is, without a second tensor of its size
        return parts[0].to(device)
    total = torch.zeros(shape, dtype=torch.int64, device=device)
    for part in parts:
        total += part.to(device)
        check_room(total)
    return total


def _counted(chunks: Iterator[UserBatch], users: int) -> Iterator[UserBatch]:
    """The same chunks, with progress in users."""
    with step("adding up users", users) as advance:
        for chunk in chunks:
            yield chunk
            advance(len(chunk))


def _bytes(batches: Sequence[UserBatch]) -> int:
    return sum(batch.held_bytes for batch in batches)
