"""What it costs to price rounds: charges a second of a real plan, whose epsilon is made anew at each of them.

With sampling, epsilon has no closed form: every charge composes the privacy loss distributions of all releases so far.
"""

import statistics
import time
from typing import Any

from fedrec.charge import Charge
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

USERS = 5_000


def plan_of(rounds: int, sampling: float) -> PrivacyPlan:
    """A run as most are: a round of counts, `rounds` equal steps, private metrics at the end; epsilon 2."""
    kinds = [(SumQuery("popularity", (100,), 1.0, 0.2),)]
    kinds += [(SumQuery("step", (100,), 1.0, 0.75 / rounds),)] * rounds
    kinds += [(SumQuery("evaluation", (3,), 1.0, 0.05),)]
    return PrivacyPlan.build(PrivacyConfig(epsilon=2.0, sampling=sampling), kinds, USERS, None)


def measure(rounds: int, sampling: float) -> dict[str, Any]:
    """CPU seconds of planning and of every charge, in a process in which nothing was priced before."""
    began = time.process_time()
    plan = plan_of(rounds, sampling)
    planning = time.process_time() - began
    seconds: list[float] = []
    last: Charge | None = None
    for round_index in range(len(plan.rounds)):
        began = time.process_time()
        last = plan.charge(round_index)
        plan.epsilon()  # as the coordinator asks for, for its report
        seconds.append(time.process_time() - began)
    return {
        "rounds": len(seconds),
        "sampling": sampling,
        "planning_cpu_seconds": planning,
        "charges_cpu_seconds": sum(seconds),
        "charges_per_cpu_second": len(seconds) / sum(seconds),
        "charge_ms": {"median": 1e3 * statistics.median(seconds), "last": 1e3 * seconds[-1]},
        "epsilon": None if last is None else last.epsilon.model_dump(),
    }
