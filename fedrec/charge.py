"""A charge: what one round of a plan releases and what it costs, as the ledger records it.

Numbers that matter are text: exact, except that epsilons are rounded UP to 6 decimals.
"""

from typing import Annotated, Literal

from pydantic import Field

from fedrec.record_parts import (
    Clip,
    Count,
    Decimal,
    Delta,
    Epsilon,
    Multiplier,
    Noise,
    OpenPart,
    Probability,
    Record,
    Rounds,
    Text,
)


class QueryTerms(OpenPart):
    """The terms of one sum. Public, and fixed before the first release."""

    name: Text
    shape: Annotated[list[Count], Field(max_length=8)]
    clip_norm: Clip | None
    """null without privacy"""
    noise_multiplier: Noise
    noise_std: Decimal
    """Standard deviation of the noise on each number"""


class ChargedEvent(OpenPart):
    """What an accountant composes."""

    mechanism: Text
    sampling: Probability
    noise_multiplier: Multiplier
    count: Annotated[int, Field(ge=1, le=10_000_000)]


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
