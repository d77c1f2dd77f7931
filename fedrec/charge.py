"""A charge: what one round of a plan releases and what it costs, as the ledger records it.

Numbers that matter are text: exact, except that epsilons are rounded UP to 6 decimals.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedrec.record_parts import (
    Clip,
    ClosedPart,
    Count,
    Decimal,
    Delta,
    Epsilon,
    Multiplier,
    Noise,
    OpenPart,
    Positive,
    Probability,
    Record,
    Rounds,
    Text,
)


class Discrete(ClosedPart):
    """The integers of one sum to which users add Skellam noise."""

    encoding: Literal["rotated", "plain"]
    dimension: Annotated[int, Field(ge=1, lt=2**40)]
    """Numbers that one user sends"""
    bits: Annotated[int, Field(ge=1, le=62)]
    """Of the modulus"""
    length: Positive
    """Steps of the clip"""
    squared: Annotated[int, Field(ge=1, le=2**53)]
    """Largest squared L2 norm of one user's integers"""
    absolute: Annotated[int, Field(ge=1, lt=2**63)]
    """Largest L1 norm of them"""
    share_variance: Positive
    """Variance of one user's noise"""


class ClipRange(ClosedPart):
    """The range of an adaptive clip: clip and noise of a round are those stated, times its factor.

    The factor is public, and follows from earlier private sums alone.
    """

    smallest: Clip
    largest: Clip


class Banded(ClosedPart):
    """The correlation of a stream's noise over its rounds (`fedrec.privacy.banded.factor`)."""

    separation: Annotated[int, Field(ge=1, le=10_000)]
    """Fewest rounds between two participations of a user"""
    coefficients: Annotated[list[Decimal], Field(min_length=1, max_length=10_000)]
    """1, and then what never rises: the sensitivity of a step to the user's last participation, by its age"""


class QueryTerms(OpenPart):
    """The terms of one sum. Public, and fixed before the first release."""

    name: Text
    shape: Annotated[list[Count], Field(max_length=8)]
    clip_norm: Clip | None
    """null without privacy"""
    noise_multiplier: Noise
    noise_std: Decimal
    """Standard deviation of the noise on each number; of correlated noise, in its first step"""
    discrete: Discrete | None = None
    """Where users add the noise"""
    factors: ClipRange | None = None
    """Where the clip adapts"""
    banded: Banded | None = None
    """Where the noise is correlated over rounds"""

    def sensitivity(self, step: int | None) -> float:
        """Return the sensitivity of a release, in clips. step: of a stream with correlated noise."""
        if self.banded is None or step is None:
            return 1.0
        return float(self.banded.coefficients[step % len(self.banded.coefficients)])


class ChargedEvent(OpenPart):
    """What an accountant composes."""

    mechanism: Text
    sampling: Probability
    noise_multiplier: Multiplier
    count: Annotated[int, Field(ge=1, le=10_000_000)]
    variance: Positive | None = None
    """Of Skellam noise on each integer, as far as the counted shares go"""
    squared: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Largest squared L2 norm of one user's integers"""
    absolute: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    """Largest L1 norm of them"""


class Epsilons(OpenPart):
    """Cumulative epsilon by each accountant; null: no bound."""

    pld: Epsilon | None
    rdp: Epsilon | None


class Charge(Record):
    """The payment for one round, this round included in its epsilon."""

    type: Literal["charge"]
    round: Rounds
    queries: list[QueryTerms]
    events: list[ChargedEvent]
    sampling: Probability
    delta: Delta | None
    epsilon: Epsilons
    step: Rounds | None = None
    """Of correlated noise: rounds since its stream began, by the last begin; null: a round alone"""
