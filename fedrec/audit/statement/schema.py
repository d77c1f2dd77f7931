"""The shape of a privacy statement, for writers and readers; published as `statement.schema.json`.

That file is made from here: `python -m fedrec.audit.statement.schema > fedrec/audit/statement/statement.schema.json`.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fedrec.audit.accountant.tradeoff import Tradeoff
from fedrec.audit.entries.records import PopulationBudget
from fedrec.record_parts import Count, Decimal

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Status = Literal["yes", "partly", "no", "unknown"]
Enforced = Literal["yes", "partly", "no"]
Level = Literal["top", "middle", "base"]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, populate_by_name=True
    )


class Adversary(_Part):
    """Epsilon against one kind of adversary."""

    adversary: str
    who: str
    epsilon: Decimal | None
    """null: no bound holds against them"""
    why: str


class Assumption(_Part):
    """What somebody must keep for the promise to hold."""

    who: str
    must: str
    enforced: Enforced
    how: str
    """What enforces it, or why nothing does"""


class Release(_Part):
    """One private sum, as it was charged in `rounds` rounds."""

    name: str
    shape: list[Count]
    clip_norm: Decimal | None
    noise_multiplier: Decimal
    """Standard deviation of the noise over the clip"""
    noise_std: Decimal
    sampling: Decimal
    """Probability of each user to take part"""
    rounds: Count
    factors: Annotated[list[Decimal], Field(min_length=2, max_length=2)] | None = None
    """Where the clip adapts: smallest and largest factor on clip and noise. A fixed clip has no such field"""

    @property
    def clip(self) -> str:
        """The clip as text."""
        adapts = "" if self.factors is None else f" x {' to '.join(f'{float(each):g}' for each in self.factors)}"
        return f"{self.clip_norm or 'none'}{adapts}"

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not there, so that statements of fixed clips keep their text."""
        values: dict[str, Any] = write(self)
        if self.factors is None:
            del values["factors"]
        return values


class Spending(_Part):
    """What one query used of the budget."""

    query: str
    numbers: Count
    """Numbers in one release"""
    rounds: Count
    share: Decimal | None
    """Part of all squared signal-to-noise (1/z^2); null without noise"""


class Stop(_Part):
    """A run that ended before its last planned round, by its own private outputs."""

    round: Count
    """The last round that was run, from 0"""
    why: str
    unrun: list[Count]
    """Rounds that were left out, and charged all the same"""


class Point(_Part):
    """Epsilon after a charge, cumulative, by each accountant."""

    charge: Count
    """Which charge of the ledger, from 1"""
    round: Count
    pld: Decimal | None
    rdp: Decimal | None


class Bound(_Part):
    """A pair that holds."""

    epsilon: Decimal
    delta: Decimal


class Curve(_Part):
    """What the best attacker can do: exactly Gaussian with `mu`, or bounded by pairs that hold together."""

    mu: Decimal | None
    bounds: list[Bound]

    def tradeoff(self) -> Tradeoff:
        """The bound on every attack that the curve is."""
        bounds = tuple((float(pair.epsilon), float(pair.delta)) for pair in self.bounds)
        return Tradeoff(None if self.mu is None else float(self.mu), bounds)


class Accountants(_Part):
    """The same releases by independent accountants; all are upper bounds."""

    pld: Decimal | None
    rdp: Decimal | None


class Data(_Part):
    """What is said of the data."""

    name: str
    users: Count
    items: Count | None
    """null: not recorded"""
    catalogue: str
    """"given", or where the items were taken from"""
    k_core: Count | None
    """Fewest events of a user or item that was kept; null: none were dropped for having few, or not recorded"""


class Participation(_Part):
    """In how many rounds one person takes part."""

    expected_rounds: float
    most_rounds: Count
    limit: str


class Scenario(_Part):
    """What was run."""

    name: str
    algorithm: str
    fingerprint: str
    """SHA-256 of the resolved scenario"""


class LedgerHead(_Part):
    """The ledger that the statement was drawn from."""

    entries: Count
    head: str
    """Hash that fixes all entries"""
    signed: Literal[True]


class DpFyRow(_Part):
    """An item of the reporting checklist of Ponomareva et al. 2023."""

    section: str
    item: str
    status: Status
    answer: str


class PyramidRow(_Part):
    """A stone of the pyramid of NIST SP 800-226."""

    level: Level
    item: str
    status: Status
    answer: str


class Checklists(_Part):
    """Published checklists, answered from this statement."""

    how_to_dp_fy_ml: list[DpFyRow]
    nist_sp_800_226: list[PyramidRow]


class Verification(_Part):
    """How to check the record without trusting this statement."""

    command: str
    needs: str


class PrivacyStatement(_Part):
    """What a run promises, to whom, under which assumptions, and what it does not promise."""

    statement_schema: Literal["urn:fedrec:privacy-statement:3"] = Field(alias="schema")
    version: Literal[3]
    promise: Annotated[list[str], Field(min_length=2, max_length=2)]
    """Two sentences for a lay reader"""
    precisely: str
    guarantee: str
    unit: str
    adjacency: str
    trust: str
    simulation: bool
    """Whether all users' data lay in one place"""
    delta: Decimal | None
    target_epsilon: Decimal | None
    """The cap; null: none"""
    epsilon: Decimal | None
    """Against who gets the model; rounded up; null: no bound holds"""
    accountants: Accountants
    best_guess: Annotated[str, Field(pattern=r"^(0\.[5-9][0-9]{3}|1\.0000)$")]
    """How often at most a guess whether somebody took part is right, both being equally likely before"""
    curve: Curve | None
    adversaries: list[Adversary]
    assumptions: list[Assumption]
    not_protected: list[str]
    unprotected: list[str]
    """What the run itself recorded as not protected, in its first and last record"""
    releases: list[Release]
    budget: list[Spending]
    spent: list[Point]
    rounds: Count
    rounds_planned: Count
    participation: Participation
    population_budget: PopulationBudget | None
    """null: the run counts itself alone, or it is not recorded"""
    stopped: Stop | None
    """null: the run did not stop early by a rule"""
    noise_source: str
    dataset: Data
    tuned_on: str | None
    """Private data that the settings were tuned on"""
    scenario: Scenario
    software: dict[str, str]
    """Package -> version"""
    ledger: LedgerHead
    not_recorded: list[str]
    """What the records of this run lack"""
    verification: Verification
    checklists: Checklists

    @model_validator(mode="after")
    def _whole(self) -> "PrivacyStatement":
        if self.releases and self.epsilon is not None and (self.delta is None or self.curve is None):
            raise ValueError("an epsilon without its delta or curve")
        return self


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a statement."""
    made = PrivacyStatement.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, "$id": "urn:fedrec:privacy-statement:3", **made}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
