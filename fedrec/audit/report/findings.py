"""Recorded facts besides the charges: attacks, and the origin of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedrec.audit.entries.records import PopulationBudget
from fedrec.audit.evidence.attack_results import opened
from fedrec.audit.statement.received import Received

NOT_RECORDED = "not recorded"
KEPT = "its owner keeps the result; the ledger fixes it by a salted digest"
_ABOUT = {"about": "", "canaries": "canaries: ", "seed": "seed "}


@dataclass(frozen=True)
class AttackRow:
    """One `attack` record, as the page shows it.

    Attributes:
        name: name of the attack.
        about: its settings, in words.
        lower: lower bound on epsilon; None: not recorded.
        lower_text: the same as text, empty for None.
        status: "yes" for agreement with the bound, "no" for a contradiction, "unknown".
        verdict: the status in words.
        start: left end of the bar from lower to upper bound, 0 to 100.
        end: its right end.
    """

    name: str
    about: str
    lower: float | None
    lower_text: str
    status: str
    verdict: str
    start: float = 0.0
    end: float = 0.0


def attack_rows(received: Received, *, private: bool = False) -> list[AttackRow]:
    """Return the `attack` records of a run.

    Args:
        received: the run.
        private: True to add the results in the private folder, which must not be handed on.
    """
    upper = received.statement.epsilon
    records = [opened(each, received.private) if private else each for each in received.attacks]
    return [_attack(payload, None if upper is None else float(upper)) for payload in records]


def _attack(payload: Mapping[str, Any], upper: float | None) -> AttackRow:
    lower = _float(payload.get("epsilon_lower"))
    confidence = _float(payload.get("confidence"))
    about = [f"{label}{payload[key]}" for key, label in _ABOUT.items() if key in payload]
    if confidence is not None:
        about.append(f"confidence {100 * confidence:g} %")
    broken = lower is not None and upper is not None and lower > upper
    accused, tried = payload.get("accused") is True, "accused" in payload
    return AttackRow(
        name=str(payload.get("name", payload.get("attack", "attack"))),
        about=", ".join(about),
        lower=lower,
        lower_text="" if lower is None else f"{lower:.4f}",
        status="no" if broken or accused else "unknown" if lower is None else "yes",
        verdict="contradicts the bound"
        if broken
        else "accuses the system"
        if accused
        else "agrees with the bound"
        if lower is not None
        else "tests no bound"
        if tried
        else KEPT
        if "result" in payload
        else NOT_RECORDED,
    )


def provenance(received: Received) -> list[tuple[str, str]]:
    """Return label and value of each fact on the origin of the run."""
    stated = received.statement
    scenario = stated.scenario
    begin = received.known.begin
    return [
        ("Scenario", scenario.name),
        ("Algorithm", scenario.algorithm),
        ("Scenario's hash", scenario.fingerprint),
        ("Started", begin.started),
        ("Code", begin.code.commit or NOT_RECORDED),
        ("Software", ", ".join(f"{name} {version}" for name, version in stated.software.items())),
        ("Noise", stated.noise_source),
        ("Machine", begin.device or NOT_RECORDED),
        ("Ledger, up to its end", f"{stated.ledger.entries} entries"),
        ("Its head then", stated.ledger.head),
        *[("Signed, it says, by", f"{party.key}: {party.role}") for party in begin.parties],
    ]


def shared_budget(budget: PopulationBudget | None) -> list[tuple[str, str]]:
    """Return label and value of each fact of record 0 on the shared budget; none for a run on its own."""
    if budget is None:
        return []
    unit = budget.unit
    return [
        ("Budget", f"{budget.name} ({budget.id})"),
        ("Whose", f"{budget.who}, {budget.period}"),
        ("Cap", f"epsilon {budget.epsilon} at delta {budget.delta} ({budget.theorem})"),
        ("Limit", f"{budget.limit} {unit}"),
        ("Reserved by this run", f"{budget.reserved} {unit}, as {budget.run}"),
        ("All runs then", f"{budget.all_runs} {unit}"),
        ("Head of the budget's file then", budget.head),
    ]


def released_besides(received: Received) -> list[tuple[str, str]]:
    """Return name and value of each release besides the sums, from the last record."""
    end = received.known.end
    return [] if end is None else list(end.released_besides.items())


def _float(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
