"""The part of `summary.json` that every run has, simulated or deployed."""

import platform
import resource
import sys
from importlib.metadata import version
from typing import Any

import torch

from fedrec.algorithms.base import Algorithm
from fedrec.audit.budget.reservation import Reservation
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.coordinator import Outcome
from fedrec.run.scenario import Scenario
from fedrec.run.shared_budget import described


def run_summary(
    scenario: Scenario,
    public_seed: int,
    algorithm: Algorithm,
    plan: PrivacyPlan,
    reservation: Reservation | None,
    outcome: Outcome,
    model_bytes: int,
) -> dict[str, Any]:
    """Return the common part of `summary.json`: settings, privacy and cost.

    Args:
        scenario: the resolved scenario.
        public_seed: seed of everything but secret noise.
        algorithm: the algorithm that was run.
        plan: the privacy plan.
        reservation: the run's part of a shared budget; None without one.
        outcome: the result of the run.
        model_bytes: size of the released model in bytes.
    """
    history = outcome.history
    seconds = sum(row["seconds"] for row in history)
    return {
        "scenario": scenario.name,
        "algorithm": scenario.algorithm_called,
        "settings": scenario.algorithm_config.model_dump(mode="json") | algorithm.chosen,
        "seed": scenario.seed,
        "public_seed": public_seed,
        "device": device_name(scenario.engine.device),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("fedrec", "torch", "numpy", "opacus", "dp-accounting")},
        },
        "provenance": scenario.provenance.model_dump(),
        "privacy": described(plan, reservation) | {"budget_shares": budget_by_query(plan)},
        "cost": {
            "seconds_per_round": seconds / len(history) if history else 0.0,
            "users_per_second": sum(row["users"] for row in history) / seconds if seconds else 0.0,
            "peak_rss_mb": _peak_rss_mb(),
            "message_bytes_up": sum(row["bytes_up"] for row in history),
            "message_bytes_down": sum(row["bytes_down"] for row in history) + model_bytes,
            "rounds": outcome.rounds,
        },
        "finished": outcome.exhausted is None,
    }


def budget_by_query(plan: PrivacyPlan) -> dict[str, float]:
    """Return each query's part of the whole budget over all its rounds; empty without privacy."""
    if not plan.private:
        return {}
    shares: dict[str, float] = {}
    for queries in plan.rounds:
        for name, query in queries.items():
            shares[name] = shares.get(name, 0.0) + query.budget_share
    return shares


def device_name(device: str) -> str:
    """Describe the device: a GPU's name, or a CPU's number of threads."""
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return f"cpu ({torch.get_num_threads()} threads)"


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
