"""The payloads of a run's records, typed: how it began, what was charged, where it stopped, how it ended.

A ledger fixes bytes; these types fix what the bytes may say. Whatever follows from a ledger is read through them
(`fedrec.audit.entries.account`), so that a record that lacks a field, or has a number out of all bounds, is refused.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedrec.audit.entries.card_terms import CardTerms
from fedrec.audit.entries.start import Start
from fedrec.charge import QueryTerms
from fedrec.record_parts import (
    ClosedPart,
    ClosedRecord,
    Count,
    Decimal,
    Delta,
    Epsilon,
    Hash,
    Lines,
    OpenPart,
    Probability,
    Record,
    Rounds,
    Text,
)

FORMAT = 2
"""The format of new ledgers. 1: before dataset, algorithm, software and shared budget were part of the first record.

It also fixes the fields of the statement that is drawn from a ledger: other fields need another format.
"""


HIDDEN = "Skellam, one secret coin a user and round, add or remove one user"
AGGREGATORS = "Skellam of server and helper each, known cohort, add or remove one user"
"""The mechanism of runs in which each user's own secret coin decides whether it contributes or sends zeros."""


class NoiseSource(StrEnum):
    """Where the noise of a run comes from, as its first record names it."""

    NONE = "no noise"
    SEEDED = "seeded: repeatable, for simulation only"
    SYSTEM = "operating system CSPRNG, ChaCha20"


class Named(ClosedPart):
    """The scenario that the run began with."""

    name: Text
    sha256: Hash
    """Of its resolved text"""


class Population(ClosedPart):
    """The users."""

    users: Count
    known: Text
    """How their number is known"""


class Catalogue(ClosedPart):
    """The items."""

    items: Count
    known: Text
    """"given", or where the items were taken from"""
    k_core: Count | None
    """Fewest events of a user or item that was kept, where users and items with fewer were dropped; null: none were"""


class PopulationBudget(ClosedPart):
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


class Terms(OpenPart):
    """The queries of some rounds in a row."""

    rounds: Annotated[list[Rounds], Field(min_length=2, max_length=2)]
    """First and last"""
    queries: list[QueryTerms]


class Sampling(OpenPart):
    """Who takes part in a round."""

    probability: Probability
    claimed: Text | None = None
    """How the cohort is drawn"""
    enforced: Text | None = None
    """By whom"""


class Mechanism(OpenPart):
    """How noise is made."""

    name: Text
    noise_per_user: Text | None = None
    rounding: Text | None = None
    bits: Count | None = None
    modulus: Decimal | None = None
    wrap_probability: Decimal | None = None
    """That any sum modulo 2^bits is read wrongly, at most; where users add the noise"""


class Party(OpenPart):
    """Who signs, and as what."""

    role: Text
    key: Text


class Code(OpenPart):
    """The program that wrote a record."""

    fedrec: Text
    commit: Text | None
    wording: Hash | None = None
    """Digest of the sources of a statement's sentences; null: before they were recorded"""


class Shares(ClosedPart):
    """The noise shares of one sum, where users add the noise."""

    expected: Annotated[int, Field(ge=1, le=2**30)]
    """Users of a cohort"""
    least: Annotated[int, Field(ge=1, le=2**30)]
    """Users without whom a round is void"""
    colluding: Annotated[int, Field(ge=0, le=2**30)]
    """Users who may show the server their shares"""
    aggregator: Literal["peers", "helper", "none"]
    """Who keeps the masks"""
    noise_by: Literal["aggregators"] | None = None
    """Where server and helper each add the whole noise, and users none; `colluding` is 0 then"""

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        if not self.colluding < self.least <= self.expected:
            raise ValueError("an honest user must be left")
        if self.by_aggregators and (self.aggregator != "helper" or self.colluding):
            raise ValueError("noise of server and helper needs a helper, and counts no user's noise")
        return self

    @property
    def by_aggregators(self) -> bool:
        """Whether server and helper each add the whole noise."""
        return self.noise_by == "aggregators"

    @property
    def counted(self) -> int:
        """Shares of the noise that the promised epsilon rests on."""
        return 1 if self.by_aggregators else self.least - self.colluding


class BeginRecord(ClosedRecord):
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
    trust: Literal["central", "distributed", "local"]
    trust_assumption: Text
    target_epsilon: Epsilon | None
    delta: Delta | None
    sampling: Sampling
    mechanism: Mechanism
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
    shares: Shares | None = None
    """Of trust models in which users add the noise"""
    card: CardTerms | None = None
    """The run card; null: a simulation, or before runs had one"""
    start: Start | None = None
    """The run whose release this one starts from; null: none"""

    @model_validator(mode="after")
    def _whole(self) -> "BeginRecord":
        if (self.guarantee == "none") != (self.delta is None) or (self.delta is None) != (self.target_epsilon is None):
            raise ValueError("a guarantee has a delta and a target, and no guarantee has neither")
        if self.private and self.seeded != (self.noise_source == NoiseSource.SEEDED):
            raise ValueError("'seeded' and 'noise_source' contradict each other")
        if (self.trust == "central") != (self.shares is None) or (self.shares is not None and not self.private):
            raise ValueError("noise shares belong to a private run whose users add the noise, and to no other")
        if self.start is not None and not self.start.covers(self.target_epsilon, self.delta):
            raise ValueError("the start's epsilon for both runs is not the sum of theirs")
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

    @property
    def hidden(self) -> bool:
        """Whether each user's own secret coin decides if it contributes: the events of a charge share one coin."""
        return self.mechanism.name == HIDDEN


class StoppedRecord(Record):
    """A run that ended before its last planned round, by its own private outputs."""

    type: Literal["stopped"]
    round: Annotated[int, Field(ge=-1, le=10_000_000)]
    why: Text
    unrun: list[Rounds]


class Pair(OpenPart):
    """An epsilon and a delta that hold together."""

    epsilon: Epsilon
    delta: Decimal


class EndRecord(Record):
    """The last record of the training: what came out."""

    type: Literal["end"]
    rounds: Rounds
    """Finished ones"""
    exhausted: Text | None = None
    """The message of an exhausted budget; null: it sufficed"""
    state: Hash | None = None
    """Digest of the shared state after the last round"""
    files: dict[Text, Hash]
    """SHA-256 of each file that is handed on, by its path in `release/`"""
    private_files: dict[Text, Hash] | None = None
    """Salted digest of each file that is not, by its path in `private/`; null: an older version"""
    released_besides: dict[Text, Text] = {}
    """All else that is released, numbers as text"""
    unprotected: Lines = []
    curve: Annotated[list[Pair], Field(max_length=1000)] | None = None
    """Pairs that bound what the best attacker can do, where users were sampled"""


class LedgerHead(ClosedPart):
    """A state of the ledger."""

    records: Count
    root: Hash


class ReceiptsRecord(ClosedRecord):
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


class FilesRecord(ClosedRecord):
    """The digests of all files of the run."""

    type: Literal["files"]
    release: Annotated[dict[Text, Hash], Field(max_length=1000)]
    private: Annotated[dict[Text, Hash], Field(max_length=10_000)]


class NoteRecord(Record):
    """A remark, say that a run was resumed under other code."""

    type: Literal["note"]
    what: Text | None = None
    code: Code | None = None
    """The program that continues the run"""
    software: dict[Text, Text] | None = None
    """Code that is not fedrec's, where it changed"""


class AttackRecord(Record):
    """An attack that was made on the run."""

    type: Literal["attack"]
    name: Text
    adversary: Text
    version: Count
    result: Hash
    """Salted digest of its result, which is private"""
