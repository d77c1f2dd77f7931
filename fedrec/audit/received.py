"""What an auditor was handed: a run's statement and ledger, read with distrust, and whether the two agree.

RUN is a run's folder, its release/ or privacy/ folder, a file in that, or what `fedrec audit export` made of one. The
statement is a claim; the ledger is the record that it must follow from. Whether the record itself is genuine,
`fedrec audit verify` checks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from fedrec.audit import chain as chains
from fedrec.audit.agreement import contradictions
from fedrec.audit.evidence import LEDGER, STATEMENT, received
from fedrec.audit.layout import Layout
from fedrec.audit.statement_schema import Accountants, Count, Decimal, PrivacyStatement
from fedrec.errors import InputError, VerificationError

Probability = Annotated[float, Field(gt=0, le=1)]


class _Query(BaseModel):
    name: str
    shape: list[Count]
    clip_norm: Decimal | None
    noise_multiplier: Decimal


class _Event(BaseModel):
    sampling: Probability
    noise_multiplier: Annotated[float, Field(gt=1e-150, lt=1e150)]
    count: Annotated[int, Field(ge=1)]


class _Charge(BaseModel):
    """What is read of a charge, whatever else it says."""

    round: Count
    queries: list[_Query]
    events: list[_Event] = []
    sampling: Probability
    epsilon: Accountants


SUMMARY = "summary.json"


@dataclass(frozen=True)
class Received:
    """A run as it was handed over. payloads: those of the ledger, oldest first. summary: {} where there is none.

    heads: the ledger's head after 0, 1, ... entries.
    """

    place: Path
    statement: dict[str, Any]
    payloads: tuple[dict[str, Any], ...]
    heads: tuple[str, ...]
    summary: dict[str, Any]

    @property
    def head(self) -> str:
        """What fixes the whole ledger."""
        return self.heads[-1]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of one type, oldest first."""
        return [payload for payload in self.payloads if payload.get("type") == kind]

    @property
    def report(self) -> Path:
        """Where its page belongs."""
        if self.place.is_dir():
            return Layout.of(self.place).release / "privacy" / "report.html"
        return self.place.with_name(f"{self.place.name}.html")

    @property
    def name(self) -> str:
        """What the run is called: its scenario, or its data, or its folder."""
        named = self.statement["scenario"] or {}
        return str(named.get("name") or self.statement["dataset"].get("name") or self.place.name)

    @property
    def faults(self) -> list[str]:
        """Where statement and ledger contradict each other, a line each; empty where they agree."""
        return list(contradictions(self.statement, self.payloads, self.heads))

    def require_agreement(self) -> None:
        """Raises: VerificationError that names the first contradiction between statement and ledger."""
        if self.faults:
            raise VerificationError(f"{self.place}: statement and ledger do not agree: {'; '.join(self.faults)}")


def receive(run: Path) -> Received:
    """Read a run. Raises: InputError when something is missing, VerificationError for a broken ledger."""
    place = _place(run)
    evidence = received(place)
    if STATEMENT not in evidence.files:
        raise InputError(f"{place}: holds no {STATEMENT}; a finished run writes it")
    stated = _json(evidence.files[STATEMENT], f"{place}: {STATEMENT}")
    try:
        PrivacyStatement.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise InputError(
            f"{place}: {STATEMENT}: '{where}': {first['msg']}; this fedrec reads statements of version 2"
        ) from None
    chain = chains.read(evidence.ledger)
    if chain.fault:
        raise VerificationError(f"{place}: {chain.fault}; the ledger was changed, ask for it again")
    payloads = tuple(record.payload for record in chain.records)
    _check(f"{place}: {LEDGER}", payloads)
    summary = Layout.of(place).private / SUMMARY
    told = _json(summary.read_bytes(), str(summary)) if summary.is_file() else {}
    return Received(place, stated, payloads, tuple(root.hex() for root in chain.roots), told)


def _place(run: Path) -> Path:
    """The run's folder, or the exported file."""
    inside = run.parent if run.is_file() and run.parent.name == "privacy" else run
    return Layout.of(inside).root if inside.is_dir() else run


def _check(ledger: str, payloads: Sequence[Mapping[str, Any]]) -> None:
    for place, payload in enumerate(payloads):
        try:
            if payload.get("type") == "charge":
                _Charge.model_validate(payload)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise VerificationError(f"{ledger}: record {place} is no charge: '{where}' is malformed") from None


def _json(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError(f"{name}: is not JSON; ask for it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{name}: is not an object; ask for it again")
    return found
