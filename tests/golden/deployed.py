"""A whole deployed run over two nodes in memory."""

from collections.abc import Sequence
from pathlib import Path

from fedrec_client.node import UserNode
from fedrec_client.sources import finder
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger

from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from tests.server.grid_in_memory import MemoryGrid

NODES = 2


def deployed(changes: Sequence[str], folder: Path) -> None:
    """Run the quickstart with `changes` and write its folder."""
    nodes = {50 + n: UserNode(finder({"partition-id": n, "num-partitions": NODES})) for n in range(NODES)}
    scenario = load_scenario("quickstart", [*changes, "seed=3", f"engine.nodes={NODES}"])
    Deployment(scenario, RunDirectory(folder), Messenger(MemoryGrid(nodes), poll=0.001)).run()
