"""A deployment over nodes in memory whose gates demand run cards, with a folder of node keys as a server has it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedrec_client.consent.consent import Consent
from fedrec_client.consent.policy import ServerPolicy
from fedrec_client.node import COMPUTED, UserNode
from fedrec_client.run_gate import Pins, RunGate
from fedrec_client.sources import finder
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger
from fedrec_server.pki.node_limits import VARIABLE

from fedrec.audit.log.keys import default_key
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.transport.node_key import NodeKey, load_node_key, new_node_key
from fedrec.wire import Packet
from tests.server.grid_in_memory import MemoryGrid

CHANGES = [
    "data.users=60", "data.items=20", "data.interactions_per_user=6", "algorithm.name=als", "algorithm.dim=2",
    "algorithm.rounds=2", "algorithm.popularity_share=0", "federation.deadline=0.1", "federation.patience=0.1",
]  # fmt: skip
"""Two rounds of equal price, so that a test may raise their number."""
FIRST = 50
"""Flower's id of the first node."""


@dataclass
class Carded:
    """Nodes with gates and keys in `folder`, and what they were asked and answered."""

    folder: Path
    nodes: int = 2
    pins: Pins | None = None
    users: int = 30
    keys: list[NodeKey] = field(default_factory=list)
    asked: dict[int, list[Packet]] = field(default_factory=dict)
    answered: dict[int, list[Packet]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = {}
        for n in range(self.nodes):
            path = self.folder / f"node{n}" / "node.key"
            if not path.exists():
                new_node_key(path)
            self.keys.append(load_node_key(path))
            limits[FIRST + n] = {"name": f"n{n}", "users": self.users, "key": self.keys[n].public.line}
        self.limits.write_text(json.dumps(limits))

    @property
    def limits(self) -> Path:
        return self.folder / "limits.json"

    def environment(self) -> tuple[str, str]:
        return VARIABLE, str(self.limits)

    def gate(self, n: int, **options: object) -> RunGate:
        pins = self.pins or Pins((default_key().public.text,))
        return RunGate(self.folder / f"node{n}" / "runs", lambda: pins, self.keys[n], **options)

    def consent(self) -> Consent:
        """The bounds on the computation, and the pinned helpers, which are of one policy with the gate's."""
        plain = Consent(computes=COMPUTED)
        server = ServerPolicy(helpers=self.pins.helpers if self.pins else ())
        return Consent(replace(plain.policy, server=server), computes=COMPUTED)

    def node(self, n: int, **options: object) -> UserNode:
        config = {"partition-id": n, "num-partitions": self.nodes}
        made = UserNode(finder(config), gate=self.gate(n, **options), consent=self.consent())
        answer, asked, answered = made.answer, self.asked.setdefault(n, []), self.answered.setdefault(n, [])

        def noted(packet: Packet) -> Packet:
            asked.append(packet)
            answered.append(answer(packet))
            return answered[-1]

        made.answer = noted
        return made

    def grid(self, **options: object) -> MemoryGrid:
        return MemoryGrid({FIRST + n: self.node(n, **options) for n in range(self.nodes)})

    def run(self, out: Path, changes: tuple[str, ...] = (), over: MemoryGrid | None = None, **options: object) -> None:
        scenario = load_scenario("quickstart", [*CHANGES, f"engine.nodes={self.nodes}", *changes])
        Deployment(scenario, RunDirectory(out), Messenger(over or self.grid(), poll=0.001), **options).run()

    def questions(self, n: int = 0) -> list[Packet]:
        return [packet for packet in self.asked[n] if packet.kind == "sum"]

    def codes(self, n: int = 0) -> list[str]:
        return [str(packet.facts["code"]) for packet in self.answered[n] if packet.kind == "refusal"]
