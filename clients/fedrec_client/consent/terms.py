"""RunTerms: what a run asks of a device and what it promises, as plain public numbers from any source.

A verified run card fills it; without one, a node fills it from the run's description.
"""

import math
from dataclasses import dataclass

from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec_client.consent.spending import Cost

GAUSSIAN = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism whose price follows from the noise multiplier alone."""


BANDED = "Gaussian, banded correlation over rounds, separated participation, add or remove one user"
"""The mechanism of correlated noise, whose price follows from the noise multiplier and from `Stream.column`."""


AGGREGATORS = "Skellam of server and helper each, known cohort, add or remove one user"
"""The mechanism of runs whose users add no noise: server and helper each add all of it."""


@dataclass(frozen=True)
class Stream:
    """Correlated noise: consecutive rounds, in which a user may take part some rounds apart.

    Attributes:
        first: its first round.
        separation: fewest rounds between two participations of a user.
        column: L2 norm of what one participation, in this round, adds to this and the later rounds, in clips.
    """

    first: int
    separation: int
    column: float


@dataclass(frozen=True)
class QueryTerms:
    """One private sum.

    Attributes:
        name: unique in its round.
        shape: of the sum.
        clip_norm: L2 bound on a user's whole contribution; None where nothing is clipped.
        noise_multiplier: standard deviation of the noise in units of the clip; 0 for none.
        noise_std: the same in units of the sum.
        skellam: one release, where the noise is Skellam's; None for Gaussian noise.
        largest_factor: the most that an adaptive clip may grow by in the run; 1 for a fixed clip.
        stream: the stream that the round belongs to; None for independent noise.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float | None
    noise_multiplier: float
    noise_std: float = 0.0
    skellam: SkellamEvent | None = None
    largest_factor: float = 1.0
    stream: Stream | None = None

    @property
    def largest_clip(self) -> float | None:
        """The largest clip of any round; None where nothing is clipped."""
        return None if self.clip_norm is None else self.clip_norm * self.largest_factor

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def cost(self) -> Cost:
        """The price for a user who takes part. Raises: PrivacyError without noise.

        In a stream it covers all later rounds, too, until the user may take part again.
        """
        if self.skellam is not None:
            return Cost.of_skellam(self.skellam)
        return Cost.of_gaussians([self.noise_multiplier / (1.0 if self.stream is None else self.stream.column)])


@dataclass(frozen=True)
class RunTerms:
    """The public terms of a run.

    Attributes:
        run: what identifies the run: a card's digest, or the fingerprint of the run's description.
        algorithm: its name.
        fingerprint: of the algorithm, with its settings.
        rounds: the queries of every round.
        sampling: probability of a user to take part in a round, (0, 1].
        trust: central, distributed, local; "none" for a run without noise.
        minimum_cohort: fewest users in a sum that is opened; the expected cohort where a run states no other.
        epsilon: of the run, at `delta`; infinite without privacy.
        delta: of the run.
        users: the declared, public population.
        mechanism: what adds the noise, as the server's ledger names it.
        hidden: whether each user's own secret coin, of probability `sampling`, decides if it contributes.
        seeded: whether the noise follows from a seed and protects nobody.
        carded: whether a signed card states all this. Its rounds are then released once each, under a unique `run`.
        expires: Unix seconds after which nothing is answered; None where the run states no end.
        ledger_key: the verified public key of the server's ledger, as text; "" without a card.
        ledger_head: root hash of the ledger, hex; "" without a card.
        ledger_size: records of the ledger under that head.
        witnesses: names or keys of the witnesses whose cosignature was verified.
        dataset: the dataset that the run names; "" for data of the node's own.
        shares: noise shares that the price rests on, of honest users, or 1 of an aggregator; None where the server adds
            the noise to exact sums.
        helper: public key of the helper that keeps the masks, as text; "" for none.
    """

    run: str
    algorithm: str
    fingerprint: str
    rounds: tuple[tuple[QueryTerms, ...], ...]
    sampling: float
    trust: str
    minimum_cohort: float
    epsilon: float
    delta: float
    users: int
    mechanism: str = GAUSSIAN
    hidden: bool = False
    seeded: bool = False
    carded: bool = False
    expires: float | None = None
    ledger_key: str = ""
    ledger_head: str = ""
    ledger_size: int = 0
    witnesses: tuple[str, ...] = ()
    dataset: str = ""
    shares: int | None = None
    helper: str = ""

    @property
    def by_aggregators(self) -> bool:
        """Whether server and helper each add the whole noise, and users none."""
        return self.mechanism == AGGREGATORS

    @property
    def private(self) -> bool:
        """Whether noise is promised."""
        return self.trust != "none"

    def stream(self, round_index: int) -> Stream | None:
        """The stream of correlated noise that a round belongs to; None for a round alone."""
        return next((query.stream for query in self.rounds[round_index]), None)

    def cost(self, round_index: int) -> Cost:
        """The price of a round for a user who is asked, whatever its coin. Raises: PrivacyError without noise."""
        events = [query.skellam for query in self.rounds[round_index] if query.skellam is not None]
        if self.hidden and events and len(events) == len(self.rounds[round_index]):
            return Cost.of_hidden(events, self.sampling)
        return sum((query.cost for query in self.rounds[round_index]), Cost())

    def whole_cost(self) -> Cost:
        """The price for a user who takes part as often as the terms allow. Raises: PrivacyError without noise."""
        found = Cost()
        for number in range(len(self.rounds)):
            stream = self.stream(number)
            if stream is None or (number - stream.first) % stream.separation == 0:
                found += self.cost(number)
        return found
