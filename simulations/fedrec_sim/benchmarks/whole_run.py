"""A whole run over any number of generated users, with noise: seconds of each kind of round, memory, and its quality.

No log is in memory: users are generated when their chunk is. Each user's newest event is withheld from training, and a
sample of the users is ranked at the end. Quality on generated users is no evidence for real ones; it shows that the run
learned what a run without privacy learns.
"""

import time
from typing import Any

import numpy as np

from fedrec import draws
from fedrec.algorithms.popularity import PopularityModel
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.evaluation.report import evaluate
from fedrec.run.coordinator import Coordinator, RoundReport
from fedrec_sim.benchmarks.memory import own_peak_mb
from fedrec_sim.benchmarks.own_round import round_setup
from fedrec_sim.benchmarks.population import WithoutNewest

_STREAM = 0xE7
RULE = "the newest event of a generated user, unseen by training; ties count against the model"


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run an algorithm to its end and rank a sample of the users.

    The job is that of `own_round`, with "epsilon" and "evaluated", the number of users who are ranked.
    """
    algo, federation, plan = round_setup(job)
    source = federation.hosted.source
    assert isinstance(source, WithoutNewest)
    kinds: dict[str, dict[str, Any]] = {}
    clock = [time.process_time()]

    def note(report: RoundReport) -> None:
        name = "+".join(query.name for query in algo.queries(report.round))
        now = time.process_time()
        kind = kinds.setdefault(name, {"round": name, "rounds": 0, "seconds": 0.0, "cpu_seconds": 0.0, "phases": {}})
        kind["rounds"] += 1
        kind["seconds"] += report.seconds
        kind["cpu_seconds"] += now - clock[0]
        for phase, seconds in report.phases.items():
            kind["phases"][phase] = kind["phases"].get(phase, 0.0) + seconds
        clock[0] = now

    began, cpu = time.perf_counter(), time.process_time()
    outcome = Coordinator(algo, federation, plan, on_round=note).run()
    model = algo.release(outcome.shared)
    trained, split = time.perf_counter(), held_out(source, job["evaluated"], job["seed"])
    found = evaluate(model, split, device=job["device"], seed=job["seed"])
    result = {
        "what": "whole",
        "algorithm": algo.name,
        "users": federation.users,
        "items": len(algo.facts.catalogue),
        "chosen": algo.chosen,
        "epsilon": None if job["epsilon"] == "none" else plan.epsilon()[plan.accountant],
        "delta": plan.config.delta if plan.private else None,
        "training_seconds": trained - began,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_mb": own_peak_mb(),
        "kinds": list(kinds.values()),
        "evaluated": found["users"],
        "metrics": found["full"],
    }
    if "popularity" in outcome.shared:
        by_popularity = PopularityModel(outcome.shared["popularity"])
        result["popularity"] = evaluate(by_popularity, split, device=job["device"], seed=job["seed"])["full"]
    return result


def held_out(source: WithoutNewest, count: int, seed: int) -> Split:
    """Draw a sample of at most `count` users from the seed, who rank their newest event."""
    everybody = source.keys(np.arange(len(source)), seed)
    sample = np.sort(draws.uniform(everybody, _STREAM, 1)[:, 0].argsort()[:count].numpy())
    events = source.whole.batch(sample, seed)
    rows = events.items.view(len(sample), -1).int().numpy()
    known = rows[:, :-1]
    offsets = np.arange(len(sample) + 1) * known.shape[1]
    history = Histories(offsets, np.ascontiguousarray(known).reshape(-1), source.n_items, identities=sample)
    return Split(history, history, rows[:, -1].astype(np.int64), history, None, RULE)
