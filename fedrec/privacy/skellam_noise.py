"""The discrete noise of a run under trust model `distributed` or `local`: encodings, shares, calibration, epsilons.

Every user adds a Skellam share to its own integers before they leave, or both aggregators add one. A Skellam sum of
shares is Skellam with the sum of their variances, so an adversary who does not know k of the shares meets noise of k
times one share's variance.

`fedrec.privacy.shares` says how many shares each adversary does not know.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fedrec.charge import Discrete
from fedrec.errors import PrivacyError
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.discrete import encoding, hidden, renyi
from fedrec.privacy.discrete.encoding import LARGEST_ROTATED, Encoding
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec.privacy.discrete.skellam import skellam
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.integers import total_shape
from fedrec.privacy.queries import PrivateSum, SumQuery
from fedrec.privacy.shares import largest_mu

KNOWS_THE_COHORT = "knows_the_cohort"
ROOM_FOR_ROUNDING = 1.01
"""Noise that encodings leave room for, as a multiple of the Gaussian noise of the same Renyi epsilon."""


@dataclass(frozen=True)
class DiscreteQuery:
    """One query's integers and noise.

    Attributes:
        encoding: of its vectors.
        multiplier: standard deviation of the counted noise over the L2 sensitivity.
        share: variance of one user's share, in squared steps.
    """

    encoding: Encoding
    multiplier: float
    share: float

    def event(self, shares: int) -> SkellamEvent:
        """Return the release as one who does not know `shares` of the shares meets it."""
        return SkellamEvent(self.share * shares, self.encoding.squared, self.encoding.absolute)

    def terms(self) -> Discrete:
        """Return the parameters as a ledger records them."""
        made = self.encoding
        return Discrete(
            encoding=made.kind,
            dimension=made.dimension,
            bits=made.bits,
            length=repr(made.length),
            squared=made.squared,
            absolute=made.absolute,
            share_variance=repr(self.share),
        )


class SkellamNoise:
    """Encodings and noise of all queries of a run.

    Args:
        config: the privacy settings, of trust model `distributed` or `local`.
        rounds: the queries of every round by name.
        users: the public size of the population.
        label: public text that the signs of the rotations follow from.

    Raises: PrivacyError where no noise, or no modulus, fits.
    """

    def __init__(
        self, config: PrivacyConfig, rounds: Sequence[dict[str, SumQuery]], users: int, label: str = ""
    ) -> None:
        assert config.epsilon != "none"
        self.config, self.rounds, self.users, self.label = config, rounds, users, label
        self.shares = config.shares(users)
        self._kinds: dict[tuple[Any, ...], Encoding] = {}
        self._cohorts: dict[int, int] = {}
        self._arrived: dict[int, int] = {}
        total = math.fsum(query.budget_share for queries in rounds for query in queries.values())
        self.factor = 0.0
        if total:
            rough = self._rough(total, config.epsilon)
            for queries in rounds:
                for query in queries.values():
                    self._encode(query, rough * ROOM_FOR_ROUNDING)
            self.factor = self._calibrated(rough, config.epsilon)

    def query(self, round_index: int, name: str) -> DiscreteQuery:
        """Return one query's integers and noise."""
        asked = self.rounds[round_index][name]
        made, multiplier = self._kinds[_kind(asked)], self.factor / math.sqrt(asked.budget_share)
        share = multiplier**2 * made.squared / self.shares.counted
        return DiscreteQuery(replace(made, label=f"{self.label}\0{round_index}\0{name}"), multiplier, share)

    def encoding(self, round_index: int, name: str) -> Encoding:
        """Return the encoding of one query."""
        return self.query(round_index, name).encoding

    def total_shape(self, round_index: int, name: str) -> tuple[int, ...]:
        """Return the shape of one query's integer total."""
        return total_shape(self.rounds[round_index][name], self.encoding(round_index, name))

    def events(self, rounds: Sequence[int], shares: int | None = None) -> list[SkellamEvent]:
        """Return the events of some rounds.

        Args:
            rounds: positions of the rounds; a repeated one counts twice.
            shares: shares that the adversary does not know; None for those that the plan counts.
        """
        unknown = self.shares.counted if shares is None else shares
        return [self.query(number, name).event(unknown) for number in rounds for name in self.rounds[number]]

    def epsilon(self, rounds: Sequence[int], shares: int | None = None) -> float:
        """Bound epsilon of some rounds by Renyi DP; infinite where the adversary knows all shares.

        With hidden participation: against an adversary who does not see the users' coins.
        """
        if shares == 0:
            return math.inf if any(self.rounds[number] for number in rounds) else 0.0
        if self.config.hidden:
            each = (self.events([number], shares) for number in rounds)
            return hidden.epsilon(each, self.config.sampling, self.config.delta)
        return self.epsilon_with_coins(rounds, shares)

    def epsilon_with_coins(self, rounds: Sequence[int], shares: int | None = None) -> float:
        """Bound epsilon of some rounds against an adversary who sees who contributes in each; shares: at least 1."""
        return renyi.epsilon(self.events(rounds, shares), self.config.delta)

    def adversaries(self, rounds: Sequence[int]) -> dict[str, float]:
        """Bound epsilon of some rounds against each adversary."""
        unknown = self.shares.unknown()
        known = {count: self.epsilon(rounds, count) for count in set(unknown.values())}
        found = {name: known[count] for name, count in unknown.items()}
        if self.config.hidden and unknown[KNOWS_THE_COHORT]:
            found[KNOWS_THE_COHORT] = self.epsilon_with_coins(rounds, unknown[KNOWS_THE_COHORT])
        return found

    def epsilon_of_user(self, rounds: Sequence[int]) -> float:
        """Bound epsilon of one user who was asked in these rounds alone; with hidden participation coins count."""
        return self.epsilon(rounds)

    @cached_property
    def wrap_probability(self) -> float:
        """Bound the probability that any sum of the whole run wraps around."""
        found = []
        for number, queries in enumerate(self.rounds):
            for name in queries:
                query = self.query(number, name)
                found.append(math.exp(query.encoding.log_wrap(self.shares.contributing, query.share * self.most)))
        return min(1.0, math.fsum(found))

    @property
    def most(self) -> int:
        """Noise shares that the modulus has room for."""
        return self.shares.present(self.shares.most)

    def drawn(self, round_index: int, users: int) -> None:
        """State how many users are asked in a round, all of whom add a share unless `noise_arrived` says otherwise."""
        self._cohorts[round_index] = users
        self._arrived.pop(round_index, None)

    def noise_arrived(self, round_index: int, users: int) -> None:
        """State that the totals of a round have their noise already: users added it, and `released` adds none.

        Args:
            round_index: position of the round, from 0.
            users: whose shares are in the totals.

        Raises: PrivacyError for fewer of them than the plan counts.
        """
        if not self.shares.local and users < self.shares.least:
            raise PrivacyError(f"round {round_index}: noise of {users} users; the plan counts {self.shares.least}")
        self._arrived[round_index] = users

    def void(self, round_index: int) -> bool:
        """Return whether too few users take part for the noise that is counted."""
        return self._cohorts.get(round_index, self.shares.expected) < self.shares.least

    def released(self, round_index: int, query: SumQuery, total: Tensor, words: WordStream) -> PrivateSum:
        """Read a total with the noise of its users; of a void round, noise alone.

        Args:
            round_index: position of the round, from 0.
            query: the query.
            total: int64 modulo 2^bits, the encoded users' sum; with their noise where it has arrived.
            words: secret words for the noise.
        """
        if round_index in self._arrived:
            return self.read(round_index, query, total, max(1, self._arrived[round_index]))
        present = max(self._cohorts.get(round_index, self.shares.expected), self.shares.least)
        return self.noisy(
            round_index, query, torch.zeros_like(total) if self.void(round_index) else total, present, words
        )

    def noisy(self, round_index: int, query: SumQuery, total: Tensor, present: int, words: WordStream) -> PrivateSum:
        """Add the noise of all shares at once to a total, which is the sum of the shares in distribution, and read it.

        Args:
            round_index: position of the round, from 0.
            query: the query.
            total: int64 modulo 2^bits, the encoded users' sum.
            present: how many users are in it.
            words: secret words for the noise.
        """
        return self.read(round_index, query, self.with_shares(round_index, query.name, total, present, words), present)

    def with_shares(self, round_index: int, name: str, total: Tensor, users: int, words: WordStream) -> Tensor:
        """Add all noise shares of the sum of some users, in one draw of the same distribution.

        Args:
            round_index: position of the round, from 0.
            name: of the query.
            total: int64 modulo 2^bits, the encoded users' sum.
            users: how many are asked, those with nothing to contribute too.
            words: secret words for the noise.

        Returns: int64 modulo 2^bits, of the same shape: what a device or node may send, where users add the noise.
        """
        return self.with_noise(round_index, name, total, self.shares.present(users), words)

    def with_noise(self, round_index: int, name: str, total: Tensor, shares: int, words: WordStream) -> Tensor:
        """Add a number of noise shares to a sum; the rest is as in `with_shares`."""
        known = self.query(round_index, name)
        noise = skellam(known.share * shares, known.encoding.dimension, words)
        sent = known.encoding.sent(total.cpu().numpy().reshape(-1), noise)
        return torch.from_numpy(sent).view(total.shape).to(total.device)

    def read(self, round_index: int, query: SumQuery, total: Tensor, present: int) -> PrivateSum:
        """Read a total that has the noise of all shares.

        Args:
            round_index: position of the round, from 0.
            query: the query.
            total: int64 modulo 2^bits.
            present: how many users are in it.
        """
        known = self.query(round_index, query.name)
        made, variance = known.encoding, known.share * self.shares.present(present)
        read = made.read(total.cpu().numpy().reshape(-1))
        value = torch.from_numpy(made.decoded(read) * query.clip_norm).view(query.shape)
        std = math.sqrt(variance) / made.length * query.clip_norm
        units = query.units(value.device)
        if made.kind == "plain" and units is not None:
            value, std = value * units, std * float(units.max())
        return PrivateSum(value.float().to(total.device), std)

    def _encode(self, query: SumQuery, factor: float) -> None:
        if _kind(query) in self._kinds:
            return
        spread = factor / math.sqrt(query.budget_share) * math.sqrt(self.most / self.shares.counted)
        try:
            if self.config.trust == "distributed" and query.size <= LARGEST_ROTATED:
                made = encoding.rotated(query.size, self.shares.contributing, spread, self.config.bits)
            else:
                steps = min(query.bits, encoding.plain_steps(spread))
                step = Lattice.with_bits(query.clip_norm, steps).step
                made = encoding.plain(query.size, self.shares.contributing, spread, step, query.clip_norm)
        except ValueError as error:
            raise PrivacyError(f"query '{query.name}': {error}; raise privacy.epsilon or privacy.bits") from None
        self._kinds[_kind(query)] = made

    def _rough(self, total: float, target: float) -> float:
        """Return the factor of Gaussian noise at the target by Renyi DP, which Skellam noise exceeds a little.

        Args:
            total: budget shares of all queries.
            target: epsilon.
        """
        if not self.config.hidden:
            return math.sqrt(total) / largest_mu(target, self.config.delta)
        shares = [math.fsum(query.budget_share for query in queries.values()) for queries in self.rounds]
        try:
            return hidden.least_factor(shares, self.config.sampling, target, self.config.delta)
        except ValueError as error:
            raise PrivacyError(f"hidden participation: {error} of epsilon {target:g}; raise privacy.epsilon") from None

    def _calibrated(self, rough: float, target: float) -> float:
        """Find the least factor whose epsilon is at most the target, to a relative 1e-6."""
        everything = range(len(self.rounds))

        def within(factor: float) -> bool:
            self.factor = factor
            return self.epsilon(everything) <= target

        low = high = rough
        while not within(high):
            low, high = high, high * 1.05
            if high > rough * 100:
                raise PrivacyError(f"no Skellam noise keeps epsilon at {target:g}; raise privacy.epsilon")
        while high / low > 1 + 1e-6:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if within(middle) else (middle, high)
        return high


def _kind(query: SumQuery) -> tuple[Any, ...]:
    return query.size, query.clip_norm, query.budget_share, query.packed, query.bits
