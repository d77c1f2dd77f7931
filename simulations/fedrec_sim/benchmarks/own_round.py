"""Our own round: the server's Coordinator over the simulation's federation, everybody taking part, no noise."""

import contextlib
import statistics
import time
from typing import Any

import numpy as np
import torch

from fedrec.algorithms.base import Algorithm
from fedrec.algorithms.discover import algorithm
from fedrec.data.datasets import DataConfig
from fedrec.devices import make_repeatable
from fedrec.errors import InputError
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.config import PrivacyConfig
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.coordinator import Coordinator, RoundReport
from fedrec.run.setup import set_up_run
from fedrec.settings import parse
from fedrec_sim.benchmarks.memory import own_peak_mb
from fedrec_sim.benchmarks.population import open_users
from fedrec_sim.engines.in_process import InProcessFederation


class _Enough(Exception):
    """Raised when enough rounds are measured."""


def round_setup(job: dict[str, Any]) -> tuple[Algorithm, InProcessFederation, PrivacyPlan]:
    """Return the job's algorithm, its users, and a plan in which everybody takes part.

    "precision", "memory_mb" and "epsilon" may be left out; there is no noise without an epsilon.

    Raises: InputError for an algorithm without queries.
    """
    make_repeatable(job["device"])  # as `fedrec simulate` does
    device = torch.device(job["device"])
    source, catalogue = open_users(job)
    kind = algorithm(job["algorithm"])
    made = set_up_run(
        kind,
        parse(kind.Config, job["config"], f"--set {job['algorithm']}"),
        PrivacyConfig(epsilon=job.get("epsilon", "none"), delta=min(1e-5, 0.1 / len(source))),
        catalogue,
        len(source),
        DataRequest(data=DataConfig(), seed=job["seed"]),
        noise_seed=job["seed"],
        device=job["device"],
    )
    algo, plan = made.algorithm, made.plan
    if algo.rounds == 0:
        raise InputError(
            f"--algorithm {job['algorithm']}: it learns nothing from users, so there is no round to measure"
        )
    federation = InProcessFederation(
        source,
        plan,
        seed=job["seed"],
        device=device,
        batch_users=job["batch_users"],
        batch_events=job["batch_events"],
        # Generated users are made anew each round (phase "load"), so that memory does not grow with their number.
        memory_bytes=job.get("memory_mb", 0 if job["dataset"] == "synthetic" else 512) << 20,
        precision=job.get("precision", "float32"),
    )
    return algo, federation, plan


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measure a full-cohort round and its phases: medians over `repeat` rounds after `warm_up` others.

    cpu_seconds counts the work of all threads, and other programs on the machine disturb it less.
    """
    algo, federation, plan = round_setup(job)
    device, users = federation.hosted.device, federation.users
    reports: list[RoundReport] = []
    cpu = [time.process_time()]
    wanted = job["warm_up"] + job["repeat"]

    def note(report: RoundReport) -> None:
        reports.append(report)
        cpu.append(time.process_time())
        if len(reports) == wanted:
            raise _Enough

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(_Enough):
        Coordinator(algo, federation, plan, on_round=note).run()
    skip = min(job["warm_up"], len(reports) - 1)
    measured = reports[skip:]
    seconds = statistics.median(report.seconds for report in measured)
    return {
        "what": "fedrec",
        "users": users,
        "items": len(algo.facts.catalogue),
        "rounds": [report.seconds for report in measured],
        "seconds": seconds,
        "cpu_seconds": statistics.median(np.diff(cpu)[skip:].tolist()),
        "phases": {
            phase: statistics.median(report.phases[phase] for report in measured) for phase in measured[0].phases
        },
        "users_per_second": users / seconds,
        "peak_rss_mb": own_peak_mb(),
        "peak_device_mb": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
