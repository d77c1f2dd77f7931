"""The description of a plan, for summaries and statements."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from fedrec.privacy import accounting
from fedrec.privacy.plan import PrivacyPlan


def describe(plan: PrivacyPlan) -> dict[str, Any]:
    """Return the `privacy` part of summary.json for the charges so far: JSON-able, None for "no bound".

    | key | value |
    |---|---|
    | `noise_multipliers`, `clip_norms` | by query name; a list, one per round, where they differ between rounds |
    | `adversaries` | epsilon against each; sampling does not help against one who sees the cohorts |
    | `participation` | rounds with queries in which a user took part, expected and at most |
    """
    private, config, delta = plan.private, plan.config, plan.config.delta
    spent = {name: value if math.isfinite(value) else None for name, value in plan.epsilon().items()}
    epsilon = spent[plan.accountant]
    mu = math.sqrt(math.fsum(1 / event.noise_multiplier**2 for event in plan.events(plan.charged)))
    known_cohort = None if spent["pld"] is None else accounting.gaussian_epsilon(mu, delta)
    asked = [round_index for round_index in plan.charged if plan.rounds[round_index]]
    return {
        "unit": "user",
        "guarantee": "(epsilon, delta)-joint differential privacy" if private else "none",
        "adjacency": "add or remove one user",
        "trust": config.trust,
        "target_epsilon": None if config.epsilon == "none" else config.epsilon,
        "epsilon": epsilon if private else None,
        "delta": delta if private else None,
        "accountants": spent if private else {"pld": None, "rdp": None},
        "noise_multipliers": _by_name(plan, plan.noise_multiplier),
        "clip_norms": _by_name(
            plan, lambda round_index, name: plan.rounds[round_index][name].clip_norm if private else None
        ),
        "sampling": config.sampling,
        "participation": _participation(plan, asked),
        "users": plan.users,
        "rounds": len(plan.charged),
        "rounds_planned": len(plan.rounds),
        "adversaries": _discrete(plan)
        or {
            "model_recipients": epsilon,
            "knows_the_cohort": known_cohort,
            "server": None if asked else 0.0,
            "server_with_colluders": None if asked else 0.0,
        },
        "noise_source": _noise_source(plan),
    }


def _participation(plan: PrivacyPlan, asked: Sequence[int]) -> dict[str, Any]:
    if plan.banded is not None:
        expected, most = plan.banded.participation(asked)
        limit = f"one of every {plan.banded.separation} rounds that ask the same"
        return {"expected_rounds": expected, "most_rounds": most, "limit": limit}
    sampling = plan.config.sampling
    return {
        "expected_rounds": len(asked) * sampling,
        "most_rounds": len(asked),
        "limit": "every user, every round" if sampling == 1 else "none below the number of rounds: each draws anew",
    }


def _discrete(plan: PrivacyPlan) -> dict[str, float | None]:
    """Return epsilon against each adversary where users add the noise; nothing for trust model `central`."""
    if plan.discrete is None:
        return {}
    against = plan.discrete.adversaries(plan.charged)
    return {name: value if math.isfinite(value) else None for name, value in against.items()}


def _noise_source(plan: PrivacyPlan) -> str:
    if not plan.private:
        return "no noise"
    if plan.seeded:
        return "seeded: repeatable, for simulation only"
    return "operating system CSPRNG, ChaCha20"


def _by_name(plan: PrivacyPlan, value: Callable[[int, str], float | None]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for number, queries in enumerate(plan.rounds):
        for name in queries:
            found.setdefault(name, []).append(value(number, name))
    return {name: values[0] if len(set(values)) == 1 else values for name, values in found.items()}
