"""Full ranking beside its peer: the plain blocked product with the items, masked, and `topk`, in the same process.

Both take turns, some users at a time, so that other programs on the machine disturb both alike.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fedrec import draws
from fedrec.algorithms.spectral import SpectralModel
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.synthetic import SyntheticUsers
from fedrec.devices import make_repeatable, wait_for
from fedrec.evaluation.ranking import LIST, MAX_SCORES, ranks
from fedrec_sim.benchmarks.memory import own_peak_mb

TURN = 1000
"""Users that one of the two ranks before it is the other's turn."""


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds and CPU seconds of both, and their ratio (of the CPU seconds; of the seconds on CUDA).

    The job: users, items, interactions_per_user (known events), dim, held_out (items a user), seed, device.
    """
    make_repeatable(job["device"])
    device, users, held_out = torch.device(job["device"]), job["users"], job["held_out"]
    split = _split(job)
    model = _model(job, device)
    step = max(1, MAX_SCORES // job["items"])
    profiles = model.fit(split.device.batch(np.arange(users), job["seed"], device))["profile"]
    items = model.decode.T.contiguous()

    def plain(some: np.ndarray) -> None:
        for start in range(0, len(some), step):
            part = some[start : start + step]
            scores = profiles[part[0] : part[-1] + 1] @ items
            seen = split.seen.batch(part, job["seed"], device)
            scores[seen.owners, seen.items] = -torch.inf
            scores.topk(LIST, dim=1)

    def ours(some: np.ndarray) -> None:
        ranks(model, split, device=device, seed=job["seed"], users=some)

    spent = {"plain": np.zeros(2), "fedrec": np.zeros(2)}
    turns = [np.arange(start, min(start + TURN, users)) for start in range(0, users, TURN)]
    for work in (plain, ours):
        work(turns[0])  # to warm up
    for some in turns:
        for name, work in (("plain", plain), ("fedrec", ours)):
            spent[name] += _seconds(work, some, device)
    clock = 0 if device.type == "cuda" else 1
    return {
        "what": "ranking",
        "users": users,
        "items": job["items"],
        "held_out": held_out,
        "seconds": float(spent["fedrec"][0]),
        "cpu_seconds": float(spent["fedrec"][1]),
        "plain_seconds": float(spent["plain"][0]),
        "plain_cpu_seconds": float(spent["plain"][1]),
        "ratio": float(spent["fedrec"][clock] / spent["plain"][clock]),
        "peak_rss_mb": own_peak_mb(),
        "peak_device_mb": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
    }


def _seconds(work: Callable[[np.ndarray], None], some: np.ndarray, device: torch.device) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work(some)
    wait_for(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def _split(job: dict[str, Any]) -> Split:
    """Generated users, the last `held_out` events of each held out."""
    users, held_out, known = job["users"], job["held_out"], job["interactions_per_user"]
    source = SyntheticUsers(users, job["items"], known + held_out, job["seed"])
    events = source.batch(np.arange(users), job["seed"]).items.view(users, -1).numpy().astype(np.int32)

    def rows(part: np.ndarray) -> Histories:
        return Histories(np.arange(users + 1) * part.shape[1], np.ascontiguousarray(part).ravel(), job["items"])

    history, many = rows(events[:, :known]), rows(events[:, known:])
    return Split(history, history, events[:, known].astype(np.int64), history, None, "generated", many)


def _model(job: dict[str, Any], device: torch.device) -> SpectralModel:
    """Vectors drawn from the seed: what a score costs does not depend on what it says."""
    keys = draws.keys(job["seed"], torch.arange(job["items"], device=device))
    encode, decode = (draws.normal(keys, stream, job["dim"]) for stream in (0, 1))
    return SpectralModel(encode, decode, torch.ones(job["items"], device=device))
