"""Cost of a round over real processes, encrypted and authenticated, against an app that only sends arrays.

Both run over a federation of their own on the loopback, started the same way (`fedrec server start`, `fedrec client
start`), one after the other, with the same arrays in the same number of rounds.
"""

import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrec_server.process.local import federation
from fedrec_server.process.run_client import RunClient

from fedrec.data import datasets, splits
from fedrec.federation.data_request import DataRequest
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import Scenario, load_scenario
from fedrec.transport.executor import OURS, Apps
from fedrec.transport.state import State
from fedrec_sim.benchmarks.memory import descendants, pss_mb
from fedrec_sim.engines.setup import SimulationSetup

BARE = Apps("fedrec_sim.benchmarks.bare_app:server_app", "fedrec_sim.benchmarks.bare_app:client_app")
CHANGES = [
    "algorithm.name=als", "algorithm.popularity_share=0.0", "algorithm.dim=16", "seed=0", "federation.patience=600",
    "federation.deadline=600",
]  # fmt: skip
"""Every round of `als`, but for one of popularity, sends the same arrays, so its rounds can be compared with each other
and with the peer's."""

ROLES = {
    "link": r"fedrec_server\.process\.gate",
    "ServerApp and its executor": r"transport\.warm \S*(:server_app|fedrec_server\.app:app)",
    "SuperNode": r"fedrec\.transport\.supernode",
    "users and their executor": r"transport\.warm \S*(:client_app|fedrec_client\.app:app)",
    "helper": r"fedrec\.cli helper start",
    "commands that started them": r"fedrec\.cli (server|client) start",
}
"""Roles of processes, by their command line."""


def measure(nodes: int, rounds: int, *, stock: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure our rounds, the bare app's, and its rounds with one number each way (`empty`)."""
    changes = [*CHANGES, f"algorithm.rounds={rounds}", f"engine.nodes={nodes}"]
    scenario = load_scenario("quickstart", changes)
    with tempfile.TemporaryDirectory(prefix="fedrec-bench-") as folder:
        root = Path(folder)
        config: dict[str, Any] = {
            "scenario": "quickstart",
            "set": "\n".join(changes),
            "out": str(root / "run"),
            "resume": False,
            "data-dir": "",
        }
        say(f"{nodes} nodes: fedrec ...")
        with _started(nodes, root / "ours", OURS, stock) as (state, online):
            ours = _rounds(state, config, OURS)
        summary = json.loads(RunDirectory(root / "run").summary.read_text(encoding="utf-8"))
        say(f"{nodes} nodes: the bare app ...")
        shapes = _shapes(scenario, nodes, rounds)
        with _started(nodes, root / "bare", BARE, stock) as (state, _):
            bare = _rounds(state, shapes, BARE)
            empty = _rounds(state, shapes | {"down": "[[1]]", "up": "[[1]]"}, BARE)
    users = summary["dataset"]["users"]
    return {
        "nodes": nodes,
        "rounds": rounds,
        "stock": stock,
        "fedrec": ours,
        "bare": bare,
        "empty": empty,
        "ratio": ours["median"] / bare["median"],
        "seconds_until_nodes_are_online": online,
        "bytes_down_a_node_a_round": summary["nodes"]["bytes_sent"] / nodes / rounds,
        "bytes_up_a_node_a_round": summary["nodes"]["bytes_received"] / nodes / rounds,
        "bytes_up_a_user_a_round": summary["nodes"]["bytes_received"] / users / rounds,
        "users": users,
    }


@contextmanager
def _started(nodes: int, root: Path, apps: Apps, stock: bool) -> Iterator[tuple[State, float]]:
    """Start a federation. Yields its state, and the seconds until all nodes were online."""
    began = time.perf_counter()
    with federation(nodes, root, None, stock=stock, say=lambda _: None, apps=apps) as state:
        yield state, time.perf_counter() - began


def _rounds(state: State, config: dict[str, Any], apps: Apps) -> dict[str, Any]:
    """Return seconds of a run's rounds, without the first one, which warms up, and the memory at the end."""
    seconds: list[float] = []
    memory: dict[str, list[float]] = {}
    began = time.perf_counter()

    def on_event(event: dict[str, Any]) -> None:
        if "round" in event:
            seconds.append(event["seconds"])
            if event["round"] == event["rounds"]:
                memory.update(process_memory())

    RunClient(state, config, on_event, apps).follow()
    steady = seconds[1:] or seconds
    return {
        "median": statistics.median(steady),
        "least": min(steady),
        "most": max(steady),
        "first": seconds[0],
        "whole_run": time.perf_counter() - began,
        "memory_mb": {role: {"processes": len(found), "sum": sum(found)} for role, found in memory.items()},
    }


def process_memory() -> dict[str, list[float]]:
    """Return MB of the federation's processes by role, shared pages counted in parts (PSS)."""
    return {role: [pss_mb(process) for process in found] for role, found in processes_of_roles().items()}


def processes_of_roles() -> dict[str, list[Path]]:
    """Return the federation's processes by role, as folders of /proc; roles that are there."""
    found: dict[str, list[Path]] = {}
    for process in descendants(os.getpid()):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        for role, pattern in ROLES.items():
            if re.search(pattern, line):
                found.setdefault(role, []).append(process)
    return {role: found[role] for role in ROLES if role in found}


def _shapes(scenario: Scenario, nodes: int, rounds: int) -> dict[str, Any]:
    """Return the bare run's configuration: shapes of a round's arrays down and up."""
    seed = scenario.seed or 0
    dataset = datasets.load(scenario.data, None, seed)
    split = splits.split(dataset, scenario.data.split, scenario.evaluation.on, seed)
    request = DataRequest(data=scenario.data, on=scenario.evaluation.on, seed=seed)
    parts = (scenario.algorithm_class, scenario.algorithm_config, scenario.privacy, scenario.engine, dataset, split)
    algorithm = SimulationSetup.build(*parts, request=request, noise_seed=seed).algorithm
    down = [list(tensor.shape) for tensor in algorithm.for_devices(algorithm.initial(), 1).values()]
    up = [list(query.shape) for query in algorithm.queries(1)]
    return {"nodes": nodes, "rounds": rounds, "down": json.dumps(down), "up": json.dumps(up)}
