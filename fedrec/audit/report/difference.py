"""The differences between two runs' promises and records, and the run that promises less."""

from dataclasses import dataclass
from typing import Any

from fedrec.audit.log import chain as chains
from fedrec.audit.statement.received import Received
from fedrec.errors import VerificationError


@dataclass(frozen=True)
class Fact:
    """One fact of two runs. a, b: its text in each; None in a run without it."""

    what: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Difference:
    """The facts of two runs.

    Attributes:
        differs: different facts.
        same: equal facts.
        verdict: the run that promises less, in words.
    """

    differs: list[Fact]
    same: list[Fact]
    verdict: str


def difference(a: Received, b: Received) -> Difference:
    """Compare two runs, fact by fact; a fact that only one has is paired with None.

    Raises:
        VerificationError: for two ledgers of one run that contradict each other.
    """
    place = chains.parted(a.heads, b.heads) if a.run == b.run else None
    if place is not None:
        raise VerificationError(
            f"{b.place}: record {place} of run {b.run} is another one than in {a.place}: the run was forked or rolled "
            f"back, and one of the two ledgers hides what the other records"
        )
    left, right = facts(a), facts(b)
    rows = [Fact(what, left.get(what), right.get(what)) for what in {**left, **right}]
    return Difference([row for row in rows if row.a != row.b], [row for row in rows if row.a == row.b], _verdict(a, b))


def facts(received: Received) -> dict[str, str]:
    """Return the promises and records of one run, as text by name."""
    stated = received.statement
    found: dict[str, Any] = {
        f"epsilon against {row.adversary.replace('_', ' ')}": row.epsilon or "no bound" for row in stated.adversaries
    }
    names = ("delta", "guarantee", "unit", "adjacency", "trust", "simulation", "noise_source", "tuned_on")
    found |= {name.replace("_", " "): getattr(stated, name) for name in names}
    found |= {f"epsilon by {name.upper()}": value or "no bound" for name, value in stated.accountants}
    found |= {
        "cap on epsilon": stated.target_epsilon or "none",
        "best guess": stated.best_guess,
        "rounds": f"{stated.rounds} of {stated.rounds_planned}",
    }
    for row in stated.releases:
        key = f"query {row.name}: "
        for what, value in (
            ("shape", "x".join(map(str, row.shape))),
            ("rounds", row.rounds),
            ("clip", row.clip),
            ("noise multiplier", row.noise_multiplier),
            ("sampling", row.sampling),
        ):
            before = found.get(key + what)
            found[key + what] = str(value) if before is None else f"{before}; {value}"
    found |= {f"data: {name}": value for name, value in stated.dataset}
    found |= {f"scenario: {name}": value for name, value in stated.scenario}
    found |= {f"version of {name}": value for name, value in stated.software.items()}
    for each in stated.assumptions:
        found[f"assumption: {each.who} {each.must}"] = f"enforced: {each.enforced}"
    found |= {f"not protected: {what}": "yes" for what in stated.not_protected}
    found |= {f"recorded as not protected: {what}": "yes" for what in stated.unprotected}
    found |= {f"shared budget: {name}": value for name, value in stated.population_budget or ()}
    found |= {"ledger: entries": len(received.known.records), "ledger: attacks": len(received.attacks)}
    found["statement and ledger"] = "; ".join(received.faults) or "agree"
    return {name: str(value) for name, value in found.items()}


def _verdict(a: Received, b: Received) -> str:
    """Compare the epsilons, if they have the same meaning."""
    for what in ("unit", "adjacency", "delta"):
        ours, theirs = getattr(a.statement, what), getattr(b.statement, what)
        if ours != theirs:
            return f"the two cannot be ranked by epsilon: {what} is {ours} in A, {theirs} in B"
    less: list[str] = []
    more: list[str] = []
    for left, right in zip(a.statement.adversaries, b.statement.adversaries, strict=False):
        values = [float("inf") if row.epsilon is None else float(row.epsilon) for row in (left, right)]
        if values[0] != values[1]:
            (more if values[0] > values[1] else less).append(left.adversary.replace("_", " "))
    if less and more:
        return f"A promises more against {', '.join(less)}, B against {', '.join(more)}"
    if less or more:
        return f"{'A' if less else 'B'} promises more, against {', '.join(less or more)}"
    return "both promise the same epsilon, against everybody"
