"""A run's part of a budget that it shares with other runs on the same people."""

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
    """What the run draws from the budget of its scenario, checked and tied to the plan; None where it has none.

    data: the dataset's name. Raises: BudgetExhausted when the plan does not fit or the period is not now, before
    anything is written.
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
    """What the plan says of itself, and of the budget that it shares; the `privacy` part of summary and statement."""
    return describe(plan) | {"population_budget": None if reservation is None else asdict(reservation.describe())}
