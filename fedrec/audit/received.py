"""What an auditor was handed: a run's statement and ledger, read with distrust, and whether the two agree.

RUN is a run's folder, its privacy/ folder, or a file in it. The statement is a claim; the ledger is the record that it
must follow from. Whether the record itself is genuine, `fedrec audit verify` tells.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from fedrec.audit.agreement import contradictions
from fedrec.audit.ledger import read_ledger
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


LEDGER, STATEMENT, SUMMARY = "ledger.jsonl", "statement.json", "summary.json"


@dataclass(frozen=True)
class Received:
    """A run as it was handed over. payloads: those of the ledger, oldest first. summary: {} where there is none.

    heads: the ledger's head after 0, 1, ... entries.
    """

    folder: Path
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
    def privacy(self) -> Path:
        """The folder that holds statement and ledger."""
        return self.folder / "privacy" if (self.folder / "privacy").is_dir() else self.folder

    @property
    def name(self) -> str:
        """What the run is called: its scenario, or its data, or its folder."""
        named = self.statement["scenario"] or {}
        return str(named.get("name") or self.statement["dataset"].get("name") or self.folder.name)

    @property
    def faults(self) -> list[str]:
        """Where statement and ledger contradict each other, a line each; empty where they agree."""
        return list(contradictions(self.statement, self.payloads, self.heads))

    def require_agreement(self) -> None:
        """Raises: VerificationError that names the first contradiction between statement and ledger."""
        if self.faults:
            raise VerificationError(f"{self.folder}: statement and ledger do not agree: {'; '.join(self.faults)}")


def receive(run: Path) -> Received:
    """Read a run. Raises: InputError when something is missing, VerificationError for a broken ledger."""
    folder = run if run.is_dir() else run.parent
    if not run.exists():
        raise InputError(f"{run}: no such run; name the folder that `fedrec simulate --out` wrote")
    if (folder / "privacy").is_dir():
        folder = folder / "privacy"
    stated = _json(folder / STATEMENT, "a finished run writes it")
    try:
        PrivacyStatement.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise InputError(
            f"{folder / STATEMENT}: '{where}': {first['msg']}; this fedrec reads statements of version 2"
        ) from None
    entries, head = read_ledger(folder / LEDGER)
    _check(folder / LEDGER, [entry["payload"] for entry in entries])
    summary = folder.parent / SUMMARY
    return Received(
        folder.parent if folder.name == "privacy" else folder,
        stated,
        tuple(dict(entry["payload"]) for entry in entries),
        (*(entry["previous"] for entry in entries), head),
        _json(summary, "") if summary.is_file() else {},
    )


def _check(ledger: Path, payloads: Sequence[Mapping[str, Any]]) -> None:
    for place, payload in enumerate(payloads):
        try:
            if payload.get("type") == "charge":
                _Charge.model_validate(payload)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise VerificationError(f"{ledger}: record {place} is no charge: '{where}' is malformed") from None


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except ValueError:
        raise InputError(f"{path}: is not JSON; ask for it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not an object; ask for it again")
    return found
