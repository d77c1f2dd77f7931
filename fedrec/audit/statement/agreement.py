"""Comparison of the files of a statement with the statement that the ledger gives.

The text of `statement.json` has one spelling, so equal bytes need no further check. If the bytes differ, each different
field is named. Sentences of another version of fedrec are neither compared nor shown; only their facts are compared. Of
an older ledger's statement, only the facts in its records are compared.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedrec.audit.entries.account import Account
from fedrec.audit.entries.records import FORMAT
from fedrec.audit.evidence.received_run import STATEMENT
from fedrec.audit.statement.markdown import as_text
from fedrec.audit.statement.promise import rounded_up
from fedrec.audit.statement.schema import PrivacyStatement
from fedrec.audit.statement.statement import statement, text_of
from fedrec.audit.statement.wording import wording
from fedrec.errors import VerificationError

TEXT = "privacy/statement.md"

SENTENCES = ("promise", "precisely", "assumptions", "not_protected", "checklists", "verification", "not_recorded")
"""Fields that derive from the ledger and from the sentences of this code."""
FORMAT_1 = (
    *("guarantee", "unit", "adjacency", "trust", "simulation", "delta", "target_epsilon", "epsilon", "accountants"),
    *("adversaries", "releases", "budget", "spent", "rounds", "rounds_planned", "participation", "stopped"),
    *("noise_source", "tuned_on", "ledger"),
)
"""Fields of version 2 that derive from the records of format 1."""
LONGEST = 80
"""Most characters of a value in a fault line."""


@dataclass
class Agreement:
    """The statement that the ledger gives, and the differences of the files.

    Attributes:
        statement: the ledger's statement, for any content of the files.
        faults: a line each.
        notes: a line each.
    """

    statement: PrivacyStatement
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(known: Account, heads: Sequence[str], files: Mapping[str, bytes]) -> Agreement:
    """Compare the statement that the ledger gives with the statement's files.

    Args:
        known: the account of the ledger's records.
        heads: the ledger's root (hex) after 0, 1, ... records.
        files: content by path in the run's folder; a finished run has both files of the statement.
    """
    found = Agreement(statement(known, heads))
    spoken = known.begin.format == FORMAT and known.code.wording == wording()
    if found.statement.not_recorded:
        found.notes.append(f"not recorded in this ledger: {'; '.join(found.statement.not_recorded)}")
    if STATEMENT in files:
        found.faults += [f"{STATEMENT}: {line}" for line in _json(files[STATEMENT], found.statement, known, spoken)]
        if not spoken:
            found.notes.append(
                "another version of fedrec wrote the statement: its facts are compared, its sentences are not; what is "
                "shown is made from the ledger"
            )
    elif known.end is not None:
        found.faults.append(f"{STATEMENT} is missing, though the run is finished")
    if TEXT in files:
        if spoken and files[TEXT] != as_text(found.statement).encode():
            found.faults.append(f"{TEXT} {_first_line(files[TEXT], as_text(found.statement))}")
    elif known.end is not None and known.begin.format > 1:
        found.faults.append(f"{TEXT} is missing, though the run is finished")
    return found


def require_plan(stated: PrivacyStatement, described: Mapping[str, Any]) -> None:
    """Compare a statement with the plan's own description (`PrivacyPlan.describe`).

    Raises:
        VerificationError: with the first difference: plan and ledger are of different runs, or one is wrong.
    """
    by = "pld" if described["trust"] == "central" else "rdp"
    spent = described["accountants"][by]
    private = described["guarantee"] != "none"
    against = {row.adversary: row.epsilon for row in stated.adversaries}
    whole = stated.model_dump(mode="json", by_alias=True)
    pairs: dict[str, tuple[Any, Any]] = {
        name: (whole[name], described[name])
        for name in ("unit", "adjacency", "trust", "rounds", "rounds_planned", "noise_source", "participation")
    }
    pairs |= {
        "guarantee": (stated.guarantee if stated.releases else described["guarantee"], described["guarantee"]),
        "users": (stated.dataset.users, described["users"]),
        "delta": (stated.delta, None if described["delta"] is None else repr(described["delta"])),
        "target epsilon": (
            stated.target_epsilon,
            None if described["target_epsilon"] is None else repr(float(described["target_epsilon"])),
        ),
        "epsilon against the server": (against["server"] is None, described["adversaries"]["server"] is None),
    }
    if private:
        last = getattr(stated.spent[-1], by) if stated.spent else rounded_up(0.0, 6)
        pairs["epsilon"] = (last, rounded_up(spent, 6))
    for name, (ledger, plan) in pairs.items():
        if ledger != plan:
            raise VerificationError(
                f"{name} is {_short(ledger)} by the ledger and {_short(plan)} by the plan; use the ledger of this run"
            )


def _json(content: bytes, given: PrivacyStatement, known: Account, spoken: bool) -> Iterator[str]:
    if content == text_of(given).encode():
        return
    derived = given.model_dump(mode="json", by_alias=True)
    try:
        told = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        yield f"is no statement ({'nested too deep' if isinstance(error, RecursionError) else error})"
        return
    if not isinstance(told, dict):
        yield "is no statement (not an object)"
        return
    lines = list(_older(told, derived) if known.begin.format == 1 else _fields(told, derived, spoken))
    yield from lines
    if spoken and not lines:
        yield "says the same in another spelling"


def _fields(told: Mapping[str, Any], derived: Mapping[str, Any], spoken: bool) -> Iterator[str]:
    for name in {**derived, **told}:
        if name not in derived:
            yield f"'{_short(name)}' is no field of a statement"
        elif name not in told:
            yield f"'{name}' is missing, the ledger gives {_short(derived[name])}"
        elif spoken or name not in SENTENCES:
            ours, theirs = derived[name], told[name]
            if name == "adversaries" and not spoken:
                ours, theirs = _epsilons(ours), _epsilons(theirs)
            yield from _difference(name, theirs, ours)


def _older(told: Mapping[str, Any], derived: Mapping[str, Any]) -> Iterator[str]:
    """Compare a statement of version 2 with the ledger of format 1."""
    for name in FORMAT_1:
        ours, theirs = derived[name], told.get(name)
        if name == "adversaries":
            ours, theirs = _epsilons(ours), _epsilons(theirs)
            if _close(ours.get("knows_the_cohort"), theirs.get("knows_the_cohort")):
                theirs = theirs | {"knows_the_cohort": ours["knows_the_cohort"]}
        yield from _difference(name, theirs, ours)
    for name, keys in (("dataset", ("name", "users")), ("scenario", ("name", "fingerprint"))):
        part = told.get(name)
        for key in keys:
            yield from _difference(
                f"{name}.{key}", part.get(key) if isinstance(part, dict) else None, derived[name][key]
            )
    part = told.get("software")
    for name, version in derived["software"].items():
        yield from _difference(f"software.{name}", part.get(name) if isinstance(part, dict) else None, version)
    if derived["curve"] is None or derived["curve"]["mu"] is not None:
        for name in ("curve", "best_guess"):
            yield from _difference(name, told.get(name), derived[name])


def _difference(name: str, told: Any, derived: Any) -> Iterator[str]:
    """Yield one line on a field: its first difference, and the number of further ones."""
    places = list(_places(name, told, derived))
    if places:
        where, theirs, ours = places[0]
        more = f" (and {len(places) - 1} more places of '{name}')" if len(places) > 1 else ""
        if name == "verification":  # a command for the reader is never repeated from a file
            yield f"'{where}' is another one than the program's, which is: {_short(ours)}{more}"
            return
        yield f"'{where}' is {_short(theirs)}, the ledger gives {_short(ours)}{more}"


def _places(where: str, told: Any, derived: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(told, dict) and isinstance(derived, dict):
        for key in {**derived, **told}:
            yield from _places(f"{where}.{key}", told.get(key, _Missing), derived.get(key, _Missing))
    elif isinstance(told, list) and isinstance(derived, list) and len(told) == len(derived):
        for place, (theirs, ours) in enumerate(zip(told, derived, strict=True)):
            yield from _places(f"{where}[{place}]", theirs, ours)
    elif isinstance(told, list) and isinstance(derived, list):
        yield where, f"{len(told)} entries", f"{len(derived)} entries"
    elif type(told) is not type(derived) or told != derived:
        yield where, told, derived


class _Missing:
    """The value of a missing key."""


def _epsilons(rows: Any) -> dict[str, Any]:
    """Return epsilon by adversary, without the sentences."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return {}
    return {str(row.get("adversary")): row.get("epsilon", _Missing) for row in rows}


def _close(one: Any, other: Any) -> bool:
    """Return whether two accountants may round the same epsilon up to these two texts."""
    try:
        return isinstance(other, str) and abs(float(one) - float(other)) < 1.5e-4
    except (TypeError, ValueError):
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field occurs twice, so that two readers could see two values")
    return found


def _short(value: Any) -> str:
    text = "absent" if value is _Missing else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _first_line(content: bytes, derived: str) -> str:
    told, ours = content.decode(errors="replace").splitlines(), derived.splitlines()
    for number, (theirs, line) in enumerate(zip(told, ours, strict=False), start=1):
        if theirs != line:
            return f"differs from what the ledger gives in line {number}, which is: {_short(line) or 'empty'}"
    return f"has {len(told)} lines, the ledger gives {len(ours)}, or ends otherwise"
