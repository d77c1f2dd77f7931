"""A run of trust model `distributed` over real processes with TLS, whose nodes drop at random stages."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_server.flower.messenger import TooFewNodes
from fedrec_server.process.local import federation
from fedrec_server.process.run_client import RunClient, RunFailed

from fedrec.audit.evidence import received_run
from fedrec.audit.log.ledger import read_ledger
from fedrec.audit.verify.verification import verify
from fedrec.errors import InputError
from fedrec.run.directory import RunDirectory
from fedrec.transport.executor import Apps
from fedrec.transport.state import State
from fedrec_sim.benchmarks.deployed_round import processes_of_roles
from fedrec_sim.benchmarks.dropping_app import FOLDER, SHARE
from fedrec_sim.benchmarks.memory import cpu_seconds, pss_mb

APPS = Apps("fedrec_sim.benchmarks.dropping_app:server_app", "fedrec_sim.benchmarks.dropping_app:client_app")
AGGREGATORS = ("peers", "helper")
EXHAUSTED = 3
"""Exit code of a run whose void rounds used up its budget."""
TOLERATED = 0.45
"""Part of the nodes that may drop in a round. More than are expected to, so that most rounds are not void."""


@dataclass(frozen=True)
class Dropping:
    """What a run showed.

    Attributes:
        nodes, aggregator: of the run.
        charges: rounds that were charged, void ones too.
        right: totals that equal the plain sum of the survivors' vectors, bit for bit.
        wrong: other totals. Not 0 is a fault.
        ahead: totals of rounds whose keys were made during the round before.
        dropped: nodes that were missing in totals, in all.
        verified: whether the run's ledger verifies.
        seconds: of the run, without the start of the nodes.
        cpu_seconds: CPU seconds of processes until the last finished round, by role; the start of the nodes counts.
        memory_mb: MB of processes at the end, by role, shared pages counted in parts (PSS).
    """

    nodes: int
    aggregator: str
    charges: int
    right: int
    wrong: int
    ahead: int
    dropped: int
    verified: bool
    seconds: float
    cpu_seconds: dict[str, float]
    memory_mb: dict[str, float]

    @property
    def void(self) -> int:
        """Rounds that revealed nothing."""
        return self.charges - self.right - self.wrong


def measure(nodes: int, rounds: int, share: float, aggregator: str, users: int, say: Callable[[str], None]) -> Dropping:
    """Run, and compare each total with the plain sum.

    Args:
        nodes: number of nodes.
        rounds: charges that the budget has; void rounds use some of them.
        share: probability that a node drops in a round, at a stage drawn uniformly.
        aggregator: `peers` or `helper`, for which a helper is started, too.
        users: of all nodes.
        say: called with lines for the screen.

    Raises: InputError for another aggregator; RunFailed where the run fails otherwise.
    """
    if aggregator not in AGGREGATORS:
        raise InputError(f"--aggregator {aggregator}: one of {', '.join(AGGREGATORS)}")
    helper = aggregator == "helper"
    changes = [
        "algorithm.name=als", "algorithm.popularity_share=0.0", "algorithm.dim=4", f"algorithm.rounds={rounds}",
        f"engine.nodes={nodes}",
        f"data.users={users}", "data.items=60", "data.interactions_per_user=12", "privacy.trust=distributed",
        f"privacy.aggregator={aggregator}", f"privacy.dropout={TOLERATED}", "privacy.colluding=0.0",
        "federation.deadline=600", "federation.patience=600",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="fedrec-bench-") as name, _environment(Path(name) / "seen", share):
        root, memory, cpu = Path(name), {}, {}
        config = {"scenario": "quickstart", "set": "\n".join(changes), "out": str(root / "run"), "data-dir": ""}

        def on_event(event: dict[str, Any]) -> None:
            if "round" in event:
                say(f"round {event['round']} of {event['rounds']}: {event['seconds']:.1f} s")
                memory.update({role: sum(map(pss_mb, found)) for role, found in processes_of_roles().items()})
                cpu.update({role: sum(map(cpu_seconds, found)) for role, found in processes_of_roles().items()})

        options: dict[str, Any] = {"stock": False, "say": lambda _: None, "apps": APPS, "helper": helper}
        with federation(nodes, root / "federation", None, **options) as state:
            began = time.perf_counter()
            _follow(state, {**config, "data-dir": ""}, on_event, rounds)
            seconds = time.perf_counter() - began
        run = RunDirectory(root / "run")
        entries = read_ledger(run.ledger)[0]
        right, wrong, ahead, dropped = compared(root / "seen", nodes)
        return Dropping(
            nodes=nodes,
            aggregator=aggregator,
            charges=sum(entry.payload["type"] == "charge" for entry in entries),
            right=right,
            wrong=wrong,
            ahead=ahead,
            dropped=dropped,
            verified=_verified(root / "run"),
            seconds=seconds,
            cpu_seconds=cpu,
            memory_mb=memory,
        )


def _follow(state: State, config: dict[str, Any], on_event: Callable[[dict[str, Any]], None], rounds: int) -> None:
    """Follow the run to its end, and resume it after a round that too few nodes began, as an operator does."""
    for stops in range(rounds + 1):  # each stop spends a charge
        try:
            RunClient(state, {**config, "resume": stops > 0}, on_event, APPS).follow()
            return
        except RunFailed as error:
            if error.exit_code == EXHAUSTED:
                return
            if error.exit_code != TooFewNodes.exit_code or stops == rounds:
                raise


@contextmanager
def _environment(folder: Path, share: float) -> Iterator[None]:
    folder.mkdir()
    added = {FOLDER: str(folder), SHARE: str(share)}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _verified(run: Path) -> bool:
    found = received_run.received(run)
    return verify(found, found.own_key("verify", "--key")).holds


def compared(folder: Path, nodes: int) -> tuple[int, int, int, int]:
    """Return how many totals are right, wrong, and of keys made ahead; and how many nodes were missing in them.

    Args:
        folder: where nodes and server noted vectors and totals (`dropping_app`).
        nodes: of the run.
    """
    right = wrong = ahead = dropped = 0
    for path in sorted(folder.glob("total-*.npz")):
        with np.load(path) as total:
            number = path.stem.removeprefix("total-")
            parts = [np.load(folder / f"vector-{number}-{member}.npy") for member in total["survivors"]]
            plain = np.sum(parts, axis=0, dtype=np.uint64) & np.uint64((1 << int(total["bits"])) - 1)
            same = bool(np.array_equal(plain, total["vector"].astype(np.uint64)))
            right, wrong, ahead = right + same, wrong + (not same), ahead + bool(total["ahead"])
            dropped += nodes - len(parts)
    return right, wrong, ahead, dropped


def text(found: Dropping) -> str:
    """Return a result as JSON."""
    return json.dumps({**vars(found), "void": found.void}, indent=2, allow_nan=False)
