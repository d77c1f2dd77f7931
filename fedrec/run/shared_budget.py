"""A run's part of a budget that several runs on the same people share."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedrec.audit.budget.budget import noise_text
from fedrec.audit.budget.reservation import Reservation
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario


def reserve(scenario: Scenario, folder: RunDirectory, plan: PrivacyPlan, data: str) -> Reservation | None:
    """Reserve the run's part of its scenario's shared budget, and tie the plan to it.

    Args:
        scenario: the scenario, whose `privacy.budget` names the budget.
        folder: the run's folder, with its ledger.
        plan: the privacy plan.
        data: the dataset's name.
    Returns: the checked reservation; None for a scenario without a shared budget.
    Raises: BudgetExhausted, before anything is written, when the plan does not fit or the period is not now.
    """
    privacy = scenario.privacy
    if privacy.budget is None:
        return None
    about = {
        "data": data,
        "users": plan.users,
        "target_epsilon": repr(privacy.epsilon) if privacy.private else None,
        "noise": noise_text(scenario.seed if plan.seeded else None),
    }
    reservation = Reservation(Path(privacy.budget), folder.ledger, plan.planned, about)
    reservation.check()
    plan.draw_from(reservation)
    return reservation


def described(plan: PrivacyPlan, reservation: Reservation | None) -> dict[str, Any]:
    """Return the `privacy` part of summary and statement: plan and shared budget."""
    return describe(plan) | {"population_budget": None if reservation is None else asdict(reservation.describe())}
