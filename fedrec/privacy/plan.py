"""PrivacyPlan: sampler, clip, noise and accounting of a run in ONE object, so that they cannot be mismatched.

Source: the execution plan of google-deepmind/jax_privacy. Different here: the unit is the USER, a round may hold
several queries over one cohort, budget is split by shares of mu^2, and a release needs a charge made before it.

Formal guarantee (trust model `central`): what leaves the server is (epsilon, delta)-differentially private with
respect to adding or removing one whole user; with each user's own state kept on the device, the system is
(epsilon, delta)-jointly differentially private (Kearns et al. 2014; billboard lemma, Hsu et al. 2014). The number of
users is public and stays when one is removed; what the others add must not change then, so their local randomness
goes by their identity, not by their place in the log.

The maths: query i of a round has sensitivity C_i (the clip) and noise z_i C_i, with z_i = t / sqrt(share_i) and one
factor t for the run. The round is one Gaussian release with 1/z^2 = sum of 1/z_i^2, on the round's one cohort.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedrec.charge import Charge, ChargedEvent, QueryTerms
from fedrec.errors import BudgetExhausted, PrivacyError, nearest
from fedrec.privacy import accounting, gaussian_noise, recorded
from fedrec.privacy.accounting import Event
from fedrec.privacy.banded.streams import BandedNoise
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.filters import Allowance
from fedrec.privacy.fixed_point import MOST_USERS, Lattice
from fedrec.privacy.gaussian_noise import ROUNDING
from fedrec.privacy.integers import EncodedIntegers, ExactIntegers, Integers
from fedrec.privacy.noise import NoiseSource
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.privacy.recorded import AGGREGATORS as TWO_NOISES
from fedrec.privacy.recorded import BANDED, HIDDEN, MECHANISM, SKELLAM
from fedrec.privacy.skellam_noise import SkellamNoise

__all__ = ["BANDED", "HIDDEN", "MECHANISM", "ROUNDING", "SKELLAM", "TWO_NOISES", "PrivacyConfig", "PrivacyPlan"]


class PrivacyPlan:
    """All releases of one run, priced before the first. Made by `build`; the only place that touches noise."""

    def __init__(
        self,
        config: PrivacyConfig,
        rounds: tuple[dict[str, SumQuery], ...],
        users: int,
        factor: float,
        source: NoiseSource,
        seeded: bool,
        discrete: SkellamNoise | None = None,
        banded: BandedNoise | None = None,
    ) -> None:
        self.config = config
        self.rounds = rounds
        self.users = users
        self.expected_cohort = users * config.cohort_share
        self._planned = {query for queries in rounds for query in queries.values()}
        self._factor = factor
        self.discrete, self.banded = discrete, banded
        self._source = source
        self._seeded = seeded
        self._charged: list[int] = []
        self._open: set[tuple[int, str]] = set()
        self._allowance: Allowance | None = None
        self._interval = accounting.interval_for(self.planned)

    @classmethod
    def build(
        cls,
        config: PrivacyConfig,
        rounds: Sequence[tuple[SumQuery, ...]],
        users: int,
        seed: int | None,
        label: str = "",
    ) -> "PrivacyPlan":
        """Check everything and calibrate the noise, before any data is touched.

        Args:
            config: the privacy settings.
            rounds: the queries of every round, a private evaluation included; their shares sum to at most 1.
            users: the public size of the population.
            seed: of the noise; None takes it from the operating system's CSPRNG.
            label: public text that the signs of rotations, and the blocks of separated users, follow from.

        Raises: PrivacyError for a plan whose guarantee cannot be proven.
        """
        if users < 1:
            raise PrivacyError(f"privacy: the number of users must be at least 1, got {users}")
        if users > MOST_USERS:
            raise PrivacyError(f"privacy: exact sums hold at most {MOST_USERS} users, got {users}")
        named = tuple({query.name: query for query in queries} for queries in rounds)
        for number, (queries, by_name) in enumerate(zip(rounds, named, strict=True)):
            if len(by_name) < len(queries):
                raise PrivacyError(f"round {number}: two queries have the same name; give each its own")
        factor = 0.0
        if config.epsilon != "none":
            if config.delta >= 1 / users:
                raise PrivacyError(
                    f"privacy.delta = {config.delta:g} must be below 1/users = {1 / users:.3g}; lower privacy.delta"
                )
            shares = [math.fsum(query.budget_share for query in queries) for queries in rounds if queries]
            if math.fsum(shares) > 1 + 1e-9:
                raise PrivacyError(f"the queries' budget shares sum to {math.fsum(shares):.6g}; at most 1 is allowed")
            if shares and config.trust == "central":
                factor = accounting.calibrate(shares, config.sampling, config.epsilon, config.delta)
        source = NoiseSource.from_seed(seed)
        if config.trust != "central" and config.private:
            discrete = SkellamNoise(config, named, users, label)
            return cls(config, named, users, discrete.factor, source, seed is not None, discrete)
        banded = BandedNoise(config, named, users, label, factor) if config.noise == "banded" else None
        plan = cls(config, named, users, factor, source, seed is not None, banded=banded)
        for number, planned in enumerate(named):
            for name, query in planned.items():
                widest = plan.noise_std(number, name) * (1.0 if banded is None else banded.spread(number))
                gaussian_noise.check_fits(query, plan.lattice(query), widest, f"round {number}")
        return plan

    @property
    def private(self) -> bool:
        """Return whether there is any guarantee."""
        return self.config.private

    @property
    def seeded(self) -> bool:
        """Return whether the noise repeats: a release that is made again is then the same release."""
        return self._seeded

    @property
    def charged(self) -> tuple[int, ...]:
        """The rounds that were paid for, in order; a round that was paid for twice occurs twice."""
        return tuple(self._charged)

    def noise_multiplier(self, round_index: int, query_name: str) -> float:
        """Standard deviation of the noise over the clip norm, in a stream's first step; 0 without privacy."""
        query = self._query(round_index, query_name)
        if self.banded is not None:
            return self.banded.multiplier(round_index, query)
        return self._factor / math.sqrt(query.budget_share) if self.private else 0.0

    def noise_std(self, round_index: int, query_name: str) -> float:
        """Standard deviation of the noise on each entry of the sum, in the sum's units; 0 without privacy."""
        return self.noise_multiplier(round_index, query_name) * self._query(round_index, query_name).clip_norm

    def sample(self, round_index: int) -> np.ndarray:
        """Positions of the users who contribute, int64, ascending: everybody, a block, or a secret Poisson sample.

        Never show its size: divide by `expected_cohort`. With hidden participation these are the coins of a
        simulation's devices; real devices draw their own.
        """
        cohort = np.arange(self.users) if self.banded is None else self.banded.cohort(round_index)
        if self.config.sampling < 1:
            cohort = self._source.cohort(round_index, self.users, self.config.sampling, self._time(round_index))
        if self.discrete is not None:
            self.discrete.drawn(round_index, self.users if self.config.hidden else len(cohort))
        return cohort

    def void(self, round_index: int) -> bool:
        """Return whether too few users take part for the noise that the plan counts: the round releases noise alone."""
        return self.discrete is not None and self.discrete.void(round_index)

    def integers(self, seed: int) -> Integers:
        """Return how contributions become the integers that are added. seed: of the users' own rounding."""
        if self.discrete is None:
            return ExactIntegers(self.users)
        return EncodedIntegers(self.discrete.encoding, self.users, seed)

    def clip(self, query: SumQuery, contribution: Contribution) -> Tensor:
        """Compute weights (B,) float64 that bound each user's WHOLE contribution by the clip (`privacy.clipping`).

        Without privacy: ones. Raises: PrivacyError for a query that is not in the plan.
        """
        if query not in self._planned:
            raise PrivacyError(f"query '{query.name}' is not in the plan with this clip; plan it with `build`")
        if not self.private:
            return contribution.unit_weights()
        return clip_weights(contribution, query.clip_norm)

    def charge(self, round_index: int) -> Charge:
        """Pay for a round. Append the result to the ledger BEFORE `privatise`, which refuses unpaid rounds.

        Its "epsilon" is cumulative, this round included. A round paid for twice counts twice.
        Raises: BudgetExhausted when the run's epsilon would pass the target, or the allowance ends; nothing is charged.
        """
        queries = self._round(round_index)
        after = [*self._charged, round_index]
        epsilon = self._epsilon(after)
        bound = epsilon[self.accountant]
        if self.config.epsilon != "none" and bound > self.config.epsilon:
            past = f"past the budget of {self.config.epsilon:g}; everything up to here is saved"
            raise BudgetExhausted(f"round {round_index} would bring epsilon to {bound:.4f}, {past}")
        if self._allowance is not None:
            self._allowance.allow(self.events(after))
        self._charged = after
        self._open |= {(round_index, name) for name in queries}
        step = None if self.banded is None else self.banded.steps(after)[-1]
        return recorded.charge(self.config, round_index, self.terms(round_index), self._recorded(after), epsilon, step)

    def forfeit(self, round_index: int) -> Charge:
        """Pay for a round that will not be run: a charge like any other, on which nothing can be released.

        For a run that stops on its own outputs: it costs what was planned, or what the budget still allows.
        Raises: BudgetExhausted as `charge` does.
        """
        charge = self.charge(round_index)
        self._open = {(other, name) for other, name in self._open if other != round_index}
        return charge

    def terms(self, round_index: int) -> list[QueryTerms]:
        """Return the terms of a round's queries, as a charge records them: shapes, clips, noise on each number.

        Public, and fixed before the first release: clip_norm is None and the noise "0.0" without privacy.
        """
        found = []
        for name, query in self._round(round_index).items():
            discrete = None if self.discrete is None else self.discrete.query(round_index, name)
            banded = None if self.banded is None else self.banded.terms(round_index)
            noise = self.noise_multiplier(round_index, name)
            found.append(recorded.terms(query, noise, discrete, banded, private=self.private))
        return found

    def _recorded(self, charged: Sequence[int]) -> list[ChargedEvent]:
        """Return the events of the last of some charges."""
        if self.discrete is not None:
            return [recorded.skellam(event, self.config) for event in self.discrete.events(charged[-1:])]
        if self.banded is not None:
            return [recorded.gaussian(event) for event in self.banded.last(charged)]
        return [recorded.gaussian(event) for event in self.events(charged[-1:])]

    def privatise(self, round_index: int, query: SumQuery, total: Tensor) -> PrivateSum:
        """Add the noise to an exact sum of clipped contributions (`gaussian_noise`, `skellam_noise`).

        Args:
            total: int64, as `integers` adds it: of the query's shape, in steps of `lattice(query)`, or encoded.
        Raises: PrivacyError when the round was not charged, or this query of it was released already, or the total is
        not one of exact integers.
        """
        where = f"round {round_index}, query '{query.name}'"
        if (round_index, query.name) not in self._open:
            raise PrivacyError(f"{where}: no unused charge; call charge({round_index}) first")
        if query != self._query(round_index, query.name):
            raise PrivacyError(f"{where}: it differs from the planned one; plan it with `build`")
        shape = query.shape if self.discrete is None else self.discrete.total_shape(round_index, query.name)
        if tuple(total.shape) != shape:
            raise PrivacyError(f"query '{query.name}': the sum has shape {tuple(total.shape)}, expected {shape}")
        if total.dtype != torch.int64:
            raise PrivacyError(f"query '{query.name}': the sum is {total.dtype}; only exact sums (int64) are released")
        self._open.remove((round_index, query.name))
        if self.discrete is not None:
            words = self._source.skellam_words(round_index, query.name, self._time(round_index))
            return self.discrete.released(round_index, query, total, words)
        lattice, std = self.lattice(query), self.noise_std(round_index, query.name)
        if std == 0:
            return PrivateSum(query.decode(total, lattice).float(), 0.0)
        if self.banded is None:
            time = self._time(round_index)
            drawn = self._source.normals_on(total.device, round_index, query.name, query.size, time)
        else:
            drawn = map(torch.from_numpy, self.banded.normals(self._source, round_index, query, self._charged))
        release = gaussian_noise.noisy(query, total, lattice, std, drawn)
        return release if self.banded is None else self.banded.released(release, round_index, self._charged)

    @property
    def accountant(self) -> str:
        """The accountant that the target holds by: "pld", or "rdp" where no other is proven."""
        return self.config.accountant

    def lattice(self, query: SumQuery) -> Lattice:
        """Return the lattice of the query's sums, which follows from the clip and the public number of users."""
        return query.lattice(self.users)

    def epsilon(self, rounds_done: int | None = None, *, prv: bool = False) -> dict[str, float]:
        """Compute epsilon by accountant, {"pld", "rdp"}; infinite without privacy once anything was released.

        Args:
            rounds_done: the number of rounds to count from the first; None for all charges so far.
            prv: whether to add Opacus' PRV accountant (seconds).
        """
        rounds = self._charged if rounds_done is None else list(range(rounds_done))
        spent = self._epsilon(rounds)
        if prv:
            finite = math.isfinite(spent["pld"])
            spent["prv"] = accounting.epsilon_prv(self.events(rounds), self.config.delta) if finite else math.inf
        return spent

    @property
    def planned(self) -> list[Event]:
        """The events of all rounds, each once, for a budget to price ahead; empty without privacy."""
        everything = range(len(self.rounds))
        return self.events(everything) if self.banded is None else self.banded.events(everything, ())

    def draw_from(self, allowance: Allowance) -> None:
        """Make `charge` also refuse releases that the allowance refuses, from now on."""
        self._allowance = allowance

    def restore(self, charged: Sequence[int], steps: Sequence[int | None] = ()) -> None:
        """Take up the charges of an earlier process (the rounds in its ledger); each counts, repeated ones too.

        They pay for no release of this process: its noise is fresh, so a repeated round must be charged again.
        steps: of correlated noise, as the charges have them. A stream begins anew unless the noise repeats.
        """
        for round_index in charged:
            self._round(round_index)
        if self.banded is not None:
            self.banded.restored(charged, steps, anew=not self._seeded)
        self._open.clear()
        self._charged = list(charged)

    def _time(self, round_index: int) -> int:
        """Return which release of the round this is: the same noise on two sums would reveal their difference."""
        return max(1, self._charged.count(round_index))

    def _round(self, round_index: int) -> dict[str, SumQuery]:
        if not 0 <= round_index < len(self.rounds):
            raise PrivacyError(
                f"round {round_index}: the plan has rounds 0..{len(self.rounds) - 1}; plan it with `build`"
            )
        return self.rounds[round_index]

    def _query(self, round_index: int, name: str) -> SumQuery:
        queries = self._round(round_index)
        if name not in queries:
            raise PrivacyError(f"round {round_index}: the plan has no query '{name}'.{nearest(name, queries)}")
        return queries[name]

    def events(self, rounds: Sequence[int]) -> list[Event]:
        """Return the Gaussian events of these rounds; empty without privacy, and where users add Skellam noise."""
        if not self.private or self.discrete is not None:
            return []
        if self.banded is not None:
            return self.banded.events(rounds)
        asked = [self.rounds[round_index].values() for round_index in rounds]
        shares = [math.fsum(query.budget_share for query in queries) for queries in asked]
        return [Event(self.config.sampling, self._factor / math.sqrt(share)) for share in shares if share]

    def _epsilon(self, rounds: Sequence[int]) -> dict[str, float]:
        if not self.private and any(self.rounds[round_index] for round_index in rounds):
            return {"pld": math.inf, "rdp": math.inf}
        if self.discrete is not None:
            return {"pld": math.inf, "rdp": self.discrete.epsilon(rounds)}
        events = self.events(rounds)
        return {
            "pld": accounting.epsilon_pld(events, self.config.delta, self._interval),
            "rdp": accounting.epsilon_rdp(events, self.config.delta),
        }
