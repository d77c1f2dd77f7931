"""One algorithm's rounds over any number of generated users: seconds, peak memory of host and device, bandwidth.

An algorithm may have rounds of several kinds (popularity first, then steps), which cost differently, so each kind is
measured on its own. The peer is the memory of the same device: a plain copy, in the same process, of the bytes that
the round at least needs.
"""

import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.devices import wait_for
from fedrec.run.coordinator import Coordinator, RoundReport
from fedrec_sim.benchmarks.memory import own_peak_mb
from fedrec_sim.benchmarks.own_round import round_setup

COPIED = 256 << 20
"""Bytes of one copy: more than any cache holds."""


class _Enough(Exception):
    """Raised when every kind of round is measured often enough."""


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measure each kind of round: medians over `repeat` of them after `warm_up` others of that kind.

    The job is that of `own_round`.
    """
    algo, federation, plan = round_setup(job)
    device, users = federation.hosted.device, federation.users
    events = users * job["interactions_per_user"]
    wanted = dict.fromkeys(_kinds(algo), job["warm_up"] + job["repeat"])
    reports: dict[str, list[RoundReport]] = {name: [] for name in wanted}
    cpu: dict[str, list[float]] = {name: [] for name in wanted}
    needed: dict[str, int] = {}
    clock = [time.process_time()]

    def note(report: RoundReport) -> None:
        name = _kind(algo, report.round)
        reports[name].append(report)
        cpu[name].append(time.process_time() - clock[0])
        if all(len(found) >= min(wanted[name], _kinds(algo)[name]) for name, found in reports.items()):
            raise _Enough
        clock[0] = time.process_time()

    def observe(round_index: int, shared: Shared) -> dict[str, float]:
        needed.setdefault(_kind(algo, round_index), needed_bytes(algo, shared, round_index, events))
        return {}

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(_Enough):
        Coordinator(algo, federation, plan, on_round=note, observe=observe).run()
    whole = {
        "what": "scale",
        "algorithm": algo.name,
        "users": users,
        "items": len(algo.facts.catalogue),
        "interactions": events,
        "peak_rss_mb": own_peak_mb(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "peak_device_mb": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
        "reserved_device_mb": torch.cuda.max_memory_reserved(device) / 1e6 if device.type == "cuda" else None,
    }
    bandwidth = copied_per_second(device)  # last: its buffers are no part of the peak
    kinds = [
        {"round": name} | _summary(found, cpu[name], job["warm_up"], needed[name], bandwidth, users)
        for name, found in reports.items()
    ]
    return whole | {"copy_gb_per_second": bandwidth / 1e9, "kinds": kinds}


def _kind(algo: Algorithm, round_index: int) -> str:
    return "+".join(query.name for query in algo.queries(round_index))


def _kinds(algo: Algorithm) -> dict[str, int]:
    """Return the number of rounds of each kind, in order of appearance."""
    found: dict[str, int] = {}
    for round_index in range(algo.rounds):
        name = _kind(algo, round_index)
        found[name] = found.get(name, 0) + 1
    return found


def _summary(
    reports: Sequence[RoundReport], cpu: Sequence[float], warm_up: int, needed: int, bandwidth: float, users: int
) -> dict[str, Any]:
    skip = min(warm_up, len(reports) - 1)
    measured = reports[skip:]
    seconds = statistics.median(report.seconds for report in measured)
    return {
        "rounds": [report.seconds for report in measured],
        "warm": skip,
        "seconds": seconds,
        "cpu_seconds": statistics.median(cpu[skip:]),
        "phases": {name: statistics.median(r.phases[name] for r in measured) for name in measured[0].phases},
        "users_per_second": users / seconds,
        "needed_bytes": needed,
        "bandwidth_fraction": needed / bandwidth / seconds,
    }


def needed_bytes(algo: Algorithm, shared: Mapping[str, torch.Tensor], round_index: int, events: int) -> int:
    """A lower bound on what a round moves: each event (8 bytes) and the row of its item in every table of the devices,
    once; each sum (8 bytes a number) written once and read once. Rows are counted for every event, cached or not.
    """
    items = len(algo.facts.catalogue)
    row = sum(
        tensor.element_size() * tensor[0].numel()
        for name, tensor in shared.items()
        if name not in algo.server_only and tensor.ndim and len(tensor) == items
    )
    return events * (8 + row) + 2 * 8 * sum(query.size for query in algo.queries(round_index))


def copied_per_second(device: torch.device, repeat: int = 8) -> float:
    """Bytes a second that a plain copy moves in `device`'s memory, read and written both counted; the best of some."""
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(repeat):
        wait_for(device)
        began = time.perf_counter()
        target.copy_(source)
        wait_for(device)
        best = min(best, time.perf_counter() - began)
    return 2 * COPIED / best
