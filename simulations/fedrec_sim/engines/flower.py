"""`--engine flower`: users behind virtual nodes of Flower's Ray runtime, with the deployed ClientApp.

Flower runs a ServerApp in a thread of its own choosing. Here the ServerApp only returns its Grid. The simulation stays
in its own thread, with progress, Ctrl-C and checkpoints as in one process.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrec_server.flower.federation import FlowerFederation
from fedrec_server.flower.messenger import Messenger
from fedrec_server.flower.nodes import NodeDirectory

from fedrec.data.folder import VARIABLE
from fedrec.errors import FedrecError, InputError
from fedrec.federation.data_request import parse_data
from fedrec.federation.spec import RunSpec
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.scenario import Scenario

POLL_SECONDS = 0.02
START_SECONDS = 300


def check_flower(scenario: Scenario) -> None:
    """Check that virtual nodes can run the scenario. Raises: InputError; also on a machine without Flower and Ray."""
    if scenario.evaluation.leaky_negatives:
        raise InputError("--engine flower: a node never has a held-out item; leave evaluation.leaky_negatives off")
    try:
        import flwr  # noqa: F401
        import ray  # noqa: F401
    except ImportError:
        raise InputError("--engine flower needs Flower and Ray: pip install 'fedrec[sim]'") from None


@contextmanager
def flower_federation(
    scenario: Scenario, spec: RunSpec, plan: PrivacyPlan, data_dir: Path | None
) -> Iterator[FlowerFederation]:
    """Spread the population of `spec` over `engine.nodes` virtual nodes, one of them at work on each core."""
    with virtual_nodes(scenario.engine.nodes, data_dir) as grid:
        messenger = Messenger(grid, poll=POLL_SECONDS)
        directory = NodeDirectory.gather(
            messenger, parse_data(spec.data), spec.catalogue, scenario.engine.nodes, scenario.federation.patience
        )
        if directory.users != spec.users:
            raise InputError(f"the nodes host {directory.users} users and the run is about {spec.users}; start anew")
        yield FlowerFederation(messenger, directory, plan, spec, scenario.federation, scenario.engine.device)


@contextmanager
def virtual_nodes(count: int, data_dir: Path | None) -> Iterator[Any]:
    """Start `count` nodes in Ray processes of this machine, and yield their Grid. They end with the context."""
    from fedrec_client.node_config import VIRTUAL

    inherited = {"FLWR_TELEMETRY_ENABLED": "0", VIRTUAL: "1"}
    if data_dir is not None:
        inherited[VARIABLE] = str(data_dir.resolve())
    with inherited_environment(inherited), _grid(count) as grid:
        yield grid


@contextmanager
def inherited_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables for processes that start in the context, then restore them: `VIRTUAL` lets a node read any file."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _grid(count: int) -> Iterator[Any]:
    from fedrec_client.app import app as client_app
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    grids: queue.Queue[Any] = queue.Queue()
    done = threading.Event()
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Any, _: Any) -> None:
        grids.put(grid)
        done.wait()

    def runtime() -> None:
        cores = max(1, min(count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
        try:
            run_simulation(
                server_app,
                client_app,
                num_supernodes=count,
                backend_config={
                    "init_args": {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"},
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
        except BaseException as error:
            grids.put(error)

    logging.getLogger("flwr").setLevel(logging.ERROR)
    thread = threading.Thread(target=runtime, name="flower", daemon=True)
    thread.start()
    try:
        grid = grids.get(timeout=START_SECONDS)
        if isinstance(grid, BaseException):
            raise FedrecError(f"Flower's runtime did not start: {type(grid).__name__}: {grid}")
        yield grid
    finally:
        done.set()
        thread.join(timeout=60)
        import ray

        ray.shutdown()
