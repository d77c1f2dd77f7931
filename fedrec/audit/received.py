"""What an auditor was handed: a run's statement and ledger, read with distrust, and whether the two agree.

RUN is a run's folder, its privacy/ folder, or a file in it. The statement is a claim; the ledger is the record that it
must follow from. Whether the record itself is genuine, `fedrec audit verify` tells.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedrec.audit.ledger import read_ledger
from fedrec.audit.statement_schema import PrivacyStatement
from fedrec.errors import InputError, VerificationError

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
        return _faults(self.statement, self.of_type("charge"), self.heads)

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
    summary = folder.parent / SUMMARY
    return Received(
        folder.parent if folder.name == "privacy" else folder,
        stated,
        tuple(dict(entry["payload"]) for entry in entries),
        (*(entry["previous"] for entry in entries), head),
        _json(summary, "") if summary.is_file() else {},
    )


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


def _faults(stated: Mapping[str, Any], charges: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[str]:
    found: list[str] = []
    if stated["rounds"] != len(charges):
        found.append(f"the statement counts {stated['rounds']} charges, the ledger holds {len(charges)}")
    entries, head = stated["ledger"]["entries"], stated["ledger"]["head"]
    if entries >= len(heads):
        found.append(f"the statement was drawn from {entries} entries, the ledger holds {len(heads) - 1}")
    elif heads[entries] != head:
        found.append("the ledger is not the one that the statement was drawn from")
    if not charges:
        return found
    spent = charges[-1].get("epsilon", {})
    for name, value in stated["accountants"].items():
        recorded = spent.get(name)
        if (recorded is None) != (value is None) or (
            value is not None and not float(recorded) <= float(value) < float(recorded) + 1.01e-4
        ):
            found.append(f"epsilon by {name.upper()} is {value} in the statement and {recorded} in the ledger")
    delta = charges[-1].get("delta")
    if delta != stated["delta"]:
        found.append(f"delta is {stated['delta']} in the statement and {delta} in the ledger")
    queries = {(q["name"], q["clip_norm"], q["noise_multiplier"]) for charge in charges for q in charge["queries"]}
    named = {(row["name"], row["clip_norm"], row["noise_multiplier"]) for row in stated["releases"]}
    for name, clip, noise in sorted(queries ^ named, key=str):
        where = "ledger" if (name, clip, noise) in queries else "statement"
        found.append(f"only the {where} has the release '{name}' with clip {clip} and noise multiplier {noise}")
    return found
