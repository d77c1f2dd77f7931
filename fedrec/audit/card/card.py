"""The run card: a signed description of a run, published before its first round, which a device checks by itself.

A card is record 0 of the run's ledger with a proof that it is there: the text that `fedrec audit prove RUN --record 0`
writes, under a checkpoint that the ledger's key signed and witnesses may have cosigned. Records of a deployment hold
under `card` what a device needs beside the promise that every run's first record makes:

| field of `card` | meaning |
|---|---|
| `serial` | microseconds since 1970 at which the card was made; a later card of the same key has a larger one |
| `expires` | the time, in UTC, from which nobody answers the run |
| `fingerprint` | of the run's whole description, which fixes every setting |
| `minimum_cohort` | users expected in a round in which only the fewest nodes answer |
| `nodes` | nodes of the run |
| `receipts` | whether each node must sign a receipt for every answer |
| `roster` | root over the nodes' keys for masks, in their order; not there in a run without masks |
| `helper` | the second party that keeps the masks (`fedrec.audit.card.helper`); not there where nodes keep them |

`fedrec.audit.card.checks` opens a card that a server sent. All files here need `cryptography` and the standard library
alone, so that small devices can run them.
"""

import bisect
import math
from dataclasses import dataclass
from datetime import datetime

from fedrec.audit.card.helper import CardHelper
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import PublicKey
from fedrec.errors import VerificationError

HIDDEN = "Skellam, one secret coin a user and round, add or remove one user"
"""The mechanism of runs that ask everybody, in which each user's own secret coin decides whether it contributes."""
AGGREGATORS = "Skellam of server and helper each, known cohort, add or remove one user"
"""The mechanism of runs whose server and helper each add the whole noise to their half of a sum, and users none."""
TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How a card writes a time, in UTC."""


class CardRefused(VerificationError):
    """A card or question that a device does not accept. code: one word for the server (`exchange.REFUSALS`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Integers:
    """The integers that a user sends for a sum, where users add the noise.

    Attributes:
        encoding: rotated or plain (`fedrec.privacy.discrete.encoding`).
        bits: of the modulus.
        length: steps of the clip.
        dimension: number of them.
        squared: largest squared L2 norm of one user's integers.
        absolute: largest L1 norm of them.
        share_variance: variance of one share of the noise on each of them: a user's, or an aggregator's.
    """

    encoding: str
    bits: int
    length: float
    dimension: int
    squared: int
    absolute: int
    share_variance: float


@dataclass(frozen=True)
class Correlation:
    """How the noise of a stream, the rounds of one group, is correlated.

    Attributes:
        separation: fewest rounds of the stream between two participations of a user.
        coefficients: sensitivity of a round to the user's last participation, by its age in rounds; 1 first, falling.
    """

    separation: int
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class QueryTerms:
    """The terms of one sum.

    Attributes:
        name: of the query.
        shape: of the sum.
        clip_norm: L2 bound of one user's whole contribution; None without privacy.
        noise_multiplier: standard deviation of the noise over the clip norm; 0 without privacy.
        noise_std: standard deviation of the noise on each number of the sum.
        integers: what a user sends, where users add the noise; else None.
        factors: smallest and largest factor on clip and noise, where the clip adapts; else None.
        correlation: of the noise over the rounds of the group; None for independent noise.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float | None
    noise_multiplier: float
    noise_std: float
    integers: Integers | None = None
    factors: tuple[float, float] | None = None
    correlation: Correlation | None = None

    @property
    def size(self) -> int:
        """Numbers of the sum."""
        return math.prod(self.shape)

    @property
    def largest_clip(self) -> float:
        """The largest clip norm of any round; 0 without privacy."""
        return (self.clip_norm or 0.0) * (1.0 if self.factors is None else self.factors[1])


@dataclass(frozen=True)
class RunCard:
    """A checked card.

    Attributes:
        run: id of the run, and of its ledger.
        key: the ledger's key, one of the device's pinned ones.
        serial: larger in a later card of the same key.
        expires: end of the card's validity, in UTC.
        fingerprint: of the run's description (`RunSpec.fingerprint`).
        algorithm: its name.
        dataset: the dataset's name.
        trust: the trust model.
        private: whether anything is guaranteed.
        epsilon: the promised bound; None without privacy.
        delta: the promised bound; None without privacy.
        sampling: probability that a user takes part in a round.
        users: declared size of the population, public.
        minimum_cohort: users expected in a round in which only the fewest nodes answer.
        nodes: nodes of the run.
        receipts: whether each node must sign a receipt for every answer.
        seeded: whether the noise follows from a seed and protects nobody.
        rounds: number of rounds.
        starts: first round of each group of rounds with the same terms.
        groups: the terms of each group, by query in the order of the round.
        mechanism: what adds the noise, as the first record names it.
        shares: noise shares in the smallest sum that is opened which its price rests on: those of honest users, or one
            where server and helper each add the whole noise; None where the server adds the noise to exact sums.
        digest: SHA-256 (hex) of the signed record: the card's identity.
        checkpoint: the signed checkpoint that the card was proven under.
        roster: root (hex) over the nodes' keys for masks, in their order; "" in a run without masks.
        helper: the second party that keeps the masks; None where the nodes keep them, or there are none.
        least: users in the smallest sum that is opened, where users add the noise; else 0.
    """

    run: str
    key: PublicKey
    serial: int
    expires: datetime
    fingerprint: str
    algorithm: str
    dataset: str
    trust: str
    private: bool
    epsilon: float | None
    delta: float | None
    sampling: float
    users: int
    minimum_cohort: int
    nodes: int
    receipts: bool
    seeded: bool
    rounds: int
    starts: tuple[int, ...]
    groups: tuple[tuple[QueryTerms, ...], ...]
    mechanism: str
    shares: int | None
    digest: str
    checkpoint: Checkpoint
    roster: str = ""
    helper: CardHelper | None = None
    least: int = 0

    @property
    def hidden(self) -> bool:
        """Whether each user's own secret coin decides if it contributes; everybody is asked then."""
        return self.mechanism == HIDDEN

    @property
    def by_aggregators(self) -> bool:
        """Whether server and helper each add the whole noise, and users none."""
        return self.mechanism == AGGREGATORS

    @property
    def expected_cohort(self) -> float:
        """Users expected to contribute in a round: the fixed denominator of every average."""
        return self.users * (self.sampling / self.separation)

    @property
    def separation(self) -> int:
        """Rounds of a stream between two participations of a user; 1 in a run without correlated noise."""
        found = (query.correlation.separation for row in self.groups for query in row if query.correlation is not None)
        return next(found, 1)

    @property
    def asking_rounds(self) -> int:
        """Number of rounds with at least one query."""
        ends = (*self.starts[1:], self.rounds)
        return sum(end - start for start, end, row in zip(self.starts, ends, self.groups, strict=True) if row)

    @property
    def largest_clip(self) -> float | None:
        """The largest clip norm of any query; None without privacy, and 0 for a run that asks nothing."""
        if not self.private:
            return None
        return max((query.largest_clip for row in self.groups for query in row), default=0.0)

    def terms(self, round_index: int) -> tuple[QueryTerms, ...]:
        """Return the terms of a round's queries. Raises: CardRefused for a round that the card does not have."""
        if not 0 <= round_index < self.rounds:
            raise CardRefused("terms", f"round {round_index}: the run card has rounds 0..{self.rounds - 1}")
        return self.groups[bisect.bisect_right(self.starts, round_index) - 1]

    def stream(self, round_index: int) -> tuple[int, int] | None:
        """Return first and last round of the stream that a round belongs to; None for a round alone."""
        if not any(query.correlation is not None for query in self.terms(round_index)):
            return None
        place = bisect.bisect_right(self.starts, round_index) - 1
        return self.starts[place], (*self.starts[1:], self.rounds)[place] - 1

    def check_time(self, now: datetime) -> None:
        """Raises: CardRefused when the card has expired.

        Args:
            now: a time with a zone.
        """
        if now >= self.expires:
            raise CardRefused("expired", f"the run card expired on {self.expires.strftime(TIME)}")
