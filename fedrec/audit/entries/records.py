"""The payloads of a run's records, typed: how it began, what was charged, where it stopped, how it ended.

A ledger fixes bytes; these types fix what the bytes may say. Whatever follows from a ledger is read through them
(`fedrec.audit.entries.account`), so that a record that lacks a field, or has a number out of all bounds, is refused.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

FORMAT = 2
"""The format of new ledgers. 1: before dataset, algorithm, software and shared budget were part of the first record.

It also fixes the fields of the statement that is drawn from a ledger: other fields need another format.
"""

Decimal = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(e[-+]?[0-9]{1,3})?$", max_length=40)]
"""A finite number that is not negative, as text."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Rounds = Annotated[int, Field(ge=0, le=10_000_000)]
Text = Annotated[str, Field(max_length=4096)]
Lines = Annotated[list[Text], Field(max_length=1000)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _within(low: float, high: float) -> AfterValidator:
    def check(text: str) -> str:
        if not low < float(text) <= high:
            raise ValueError(f"must lie above {low:g} and not above {high:g}")
        return text

    return AfterValidator(check)


Probability = Annotated[Decimal, _within(0, 1)]
Delta = Annotated[Decimal, _within(0, 1)]
Epsilon = Annotated[Decimal, _within(-1, 1e12)]
Multiplier = Annotated[Decimal, _within(0.01, 1e150)]
"""Standard deviation of the noise of a whole round over its clip; less belongs to an epsilon above 1000."""


def _noise(text: str) -> str:
    if float(text) != 0 and not 0.01 < float(text) <= 1e150:
        raise ValueError("must be 0, or lie above 0.01 and not above 1e+150")
    return text


Noise = Annotated[Decimal, AfterValidator(_noise)]
"""The same for one query, which has at least the noise of its round; 0 without privacy."""
Clip = Annotated[Decimal, _within(1e-150, 1e150)]


class NoiseSource(StrEnum):
    """Where the noise of a run comes from, as its first record names it."""

    NONE = "no noise"
    SEEDED = "seeded: repeatable, for simulation only"
    SYSTEM = "operating system CSPRNG, ChaCha20"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class _Open(BaseModel):
    """A part that may hold more than is read of it."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, use_attribute_docstrings=True)


class Named(_Part):
    """The scenario that the run began with."""

    name: Text
    sha256: Hash
    """Of its resolved text"""


class Population(_Part):
    """The users."""

    users: Count
    known: Text
    """How their number is known"""


class Catalogue(_Part):
    """The items."""

    items: Count
    known: Text
    """"given", or where the items were taken from"""
    k_core: Count | None
    """Fewest events of a user or item that was kept, where users and items with fewer were dropped; null: none were"""


class PopulationBudget(_Part):
    """The budget that a run draws from together with others, and what the run reserved of it."""

    id: Text
    """What no other budget has"""
    name: Text
    who: Text
    period: Text
    epsilon: Decimal
    """The cap, for all runs together"""
    delta: Decimal
    filter: Text
    order: Count | None
    """Of a Renyi filter"""
    theorem: Text
    unit: Text
    """Of the next three numbers"""
    limit: Decimal
    reserved: Decimal
    """By this run, for all that it planned"""
    all_runs: Decimal
    """Counted for all runs when this one had reserved"""
    run: Text
    """What the budget's file calls this run"""
    head: Hash
    """Hash that fixes the budget's file up to this run's reservation"""


class Query(_Open):
    """The terms of one sum."""

    name: Text
    shape: Annotated[list[Count], Field(max_length=8)]
    clip_norm: Clip | None
    noise_multiplier: Noise
    noise_std: Decimal


class Event(_Open):
    """What an accountant composes."""

    mechanism: Text
    sampling: Probability
    noise_multiplier: Multiplier
    count: Annotated[int, Field(ge=1, le=10_000_000)]


class Epsilons(_Open):
    """Cumulative epsilon by each accountant; null: no bound."""

    pld: Epsilon | None
    rdp: Epsilon | None


class Terms(_Open):
    """The queries of some rounds in a row."""

    rounds: Annotated[list[Rounds], Field(min_length=2, max_length=2)]
    """First and last"""
    queries: list[Query]


class Sampling(_Open):
    """Who takes part in a round."""

    probability: Probability


class Party(_Open):
    """Who signs, and as what."""

    role: Text
    key: Text


class Code(_Open):
    """The program that wrote a record."""

    fedrec: Text
    commit: Text | None
    wording: Hash | None = None
    """Digest of the sources of a statement's sentences; null: before they were recorded"""


class CardTerms(_Open):
    """What a device needs of a deployment beside the promise (`fedrec.audit.card.card`)."""

    serial: Count
    """Microseconds since 1970 at which the card was made"""
    expires: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    """The time, in UTC, from which nobody answers"""
    fingerprint: Hash
    """Of the run's whole description"""
    minimum_cohort: Count
    """Users expected in a round in which only the fewest nodes answer"""
    nodes: Count
    receipts: bool
    """Whether each node must sign a receipt for every answer"""


class BeginRecord(_Part):
    """The first record: the promise, and all facts of the run that a statement repeats."""

    type: Literal["begin"]
    format: Annotated[int, Field(ge=1, le=FORMAT)]
    started: Text
    scenario: Named
    dataset: Text
    population: Population
    unit: Text
    adjacency: Text
    guarantee: Text
    trust: Literal["central"]
    trust_assumption: Text
    target_epsilon: Epsilon | None
    delta: Delta | None
    sampling: Sampling
    mechanism: dict[str, Any]
    noise_source: Text
    seeded: bool
    rounds: Rounds
    plan: list[Terms]
    parties: Annotated[list[Party], Field(min_length=1)]
    accountants: dict[str, Text]
    code: Code
    unprotected: Lines
    tuned_on: Text | None
    precision: Text
    # From format 2 on.
    simulation: bool | None = None
    """Whether all users' data lay in one place"""
    algorithm: Text | None = None
    catalogue: Catalogue | None = None
    software: dict[str, Text] | None = None
    device: Text | None = None
    budget: PopulationBudget | None = None
    notes: Lines = []
    """What else must be said of the run before anything else"""
    fixes_files: bool = False
    """Whether a record at the end of a finished run fixes every file of it"""
    card: CardTerms | None = None
    """The run card; null: a simulation, or before runs had one"""

    @model_validator(mode="after")
    def _whole(self) -> "BeginRecord":
        if (self.guarantee == "none") != (self.delta is None) or (self.delta is None) != (self.target_epsilon is None):
            raise ValueError("a guarantee has a delta and a target, and no guarantee has neither")
        if self.private and self.seeded != (self.noise_source == NoiseSource.SEEDED):
            raise ValueError("'seeded' and 'noise_source' contradict each other")
        later = (self.simulation, self.algorithm, self.catalogue, self.software, self.device, self.code.wording)
        if self.format == 1 and (any(value is not None for value in (*later, self.budget)) or self.notes):
            raise ValueError("format 1 has no such field")
        if self.format > 1 and any(value is None for value in later):
            raise ValueError("simulation, algorithm, catalogue, software, device and wording must be there")
        return self

    @property
    def private(self) -> bool:
        """Whether anything is guaranteed."""
        return self.guarantee != "none"


class ChargeRecord(_Open):
    """What is read of a charge."""

    type: Literal["charge"]
    round: Rounds
    queries: list[Query]
    events: list[Event]
    sampling: Probability
    delta: Delta | None
    epsilon: Epsilons


class StoppedRecord(_Open):
    """A run that ended before its last planned round, by its own private outputs."""

    type: Literal["stopped"]
    round: Annotated[int, Field(ge=-1, le=10_000_000)]
    why: Text
    unrun: list[Rounds]


class Pair(_Open):
    """An epsilon and a delta that hold together."""

    epsilon: Epsilon
    delta: Decimal


class EndRecord(_Open):
    """What is read of the last record."""

    type: Literal["end"]
    rounds: Rounds
    files: dict[Text, Hash]
    unprotected: Lines = []
    curve: Annotated[list[Pair], Field(max_length=1000)] | None = None
    """Pairs that bound what the best attacker can do, where users were sampled"""


class LedgerHead(_Part):
    """A state of the ledger."""

    records: Count
    root: Hash


class ReceiptsRecord(_Part):
    """The receipts of one round's nodes, by their SHA-256; random digests stand for nodes that did not answer."""

    type: Literal["receipts"]
    round: Rounds
    charge: Count
    """Number of the record that charged the round"""
    question: Hash
    """Of what all nodes were asked (`fedrec.audit.card.receipt`)"""
    head: LedgerHead
    """What the questions showed"""
    receipts: Annotated[list[Hash], Field(max_length=4096)]


class FilesRecord(_Part):
    """The digests of all files of the run."""

    type: Literal["files"]
    release: Annotated[dict[Text, Hash], Field(max_length=1000)]
    private: Annotated[dict[Text, Hash], Field(max_length=10_000)]


class ResumedRecord(_Open):
    """A note, where it names the code that continued the run."""

    type: Literal["note"]
    code: Code | None = None
