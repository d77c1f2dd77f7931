"""What one training round costs a device: `fedrec bench device-round`.

A real deployment asks a device, which refuses: its question, with run card, charge and proofs, is recorded. Processes
of their own then answer it from a store, each on one thread.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.consent.files import write_policy
from fedrec_client.consent.policy import Policy
from fedrec_client.users_noise import UsersNoise
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger
from flwr.app import Message

from fedrec import wire
from fedrec.data.catalogue import Catalogue
from fedrec.errors import FedrecError, InputError
from fedrec.federation import exchange
from fedrec.federation.spec import parse_spec
from fedrec.recommend.run_items import run_items
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.secagg.vectors import word
from fedrec.transport.node_key import new_node_key
from fedrec.wire import Packet, Precision
from fedrec_sim.benchmarks.edge import ONE_THREAD

MODES = ("numpy", "flower", "torch")
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
DEVICE, OTHERS = 1, 2


class RecordingGrid:
    """Two nodes, a device and all other users, that say who they are and answer nothing."""

    def __init__(self, users: int, catalogue: str) -> None:
        self.sizes = {DEVICE: 1, OTHERS: users - 1}
        self.catalogue, self.asked = catalogue, dict[int, Packet]()
        self._replies: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        """Return both nodes."""
        return list(self.sizes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take questions, and keep that of a round."""
        made: list[str] = []
        for message in messages:
            node, packet = message.metadata.dst_node_id, wire.from_record(message.content)
            identity = f"{node}-{len(self._replies)}-{len(made)}-{packet.kind}"
            message.metadata.__dict__["_message_id"] = identity
            if packet.kind == exchange.HELLO:
                facts: dict[str, wire.Fact] = {"users": self.sizes[node], "place": -1, "catalogue": self.catalogue}
                answer = Packet(exchange.PRESENCE, facts=facts)
            else:
                self.asked[node] = packet
                answer = exchange.refusal("terms", packet)
            self._replies[identity] = Message(wire.to_record(answer), reply_to=message)
            made.append(identity)
        return made

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        """Return the answers to questions."""
        return [self._replies.pop(each) for each in list(identities) if each in self._replies]


def recorded(folder: Path, items: int, users: int, events: int, algorithm: str, dim: int) -> tuple[Packet, int]:
    """Make a device with a store, and the question of a round to it; and return `masked_bytes` of that.

    Args:
        folder: a new folder.
        items: size of the catalogue.
        users: size of the population.
        events: of the device.
        algorithm: popularity or als.
        dim: length of vectors of als.
    """
    from flwr.supercore.task_identity import TaskIdentity

    from fedrec.data.datasets import public_catalogue

    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    device = folder / "device"
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{n},title {n}\n" for n in range(items)))
    chosen = np.random.default_rng(1).choice(items, min(events, items), replace=False).tolist()
    rows = [f"0,{item},{place}" for place, item in enumerate(chosen)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    with EdgeClient.open(device, KeyFile(device / "events.key")) as client:
        client.record_all(Event(str(item), "view", float(place)) for place, item in enumerate(chosen))
    write_policy(device / "policy.toml", Policy())
    new_node_key(device / "node.key")
    own = f"algorithm.dim={dim}", "algorithm.rounds=1", "algorithm.popularity_share=0.0"  # its own sums come first
    settings = [
        *("data.name=nodes", f"data.catalogue={folder / 'items.csv'}", f"algorithm.name={algorithm}"),
        *("privacy.trust=local", "engine.nodes=2", "federation.deadline=1", "federation.patience=1"),
        *(own if algorithm == "als" else ()),
    ]
    scenario = load_scenario("quickstart", settings)
    catalogue = public_catalogue(scenario.data, None, 0)[0]
    run_items(catalogue).write(folder / "items.json")
    grid = RecordingGrid(users, catalogue.digest)
    logging.getLogger("fedrec").setLevel(logging.ERROR)  # the device refuses, as it must
    try:
        Deployment(scenario, RunDirectory(folder / "run"), Messenger(grid, poll=0.01)).run()
    except FedrecError as error:
        if DEVICE not in grid.asked:
            raise InputError(f"bench device-round: no question was asked ({error})") from None
    packet = grid.asked[DEVICE]
    about = {"kind": packet.kind, "fingerprint": packet.fingerprint, "round": packet.round}
    (folder / "asked.json").write_text(json.dumps(about | {"facts": dict(packet.facts)}))
    arrays: dict[str, Any] = {name: wire.numpy_of(tensor) for name, tensor in packet.tensors.items()}
    np.savez(folder / "asked.npz", **arrays)
    return packet, masked_bytes(packet, catalogue)


def masked_bytes(packet: Packet, catalogue: Catalogue) -> int:
    """Return the bytes of the masked vector that a device sends in the same run of trust model `distributed`."""
    spec = parse_spec(packet.fact("spec", str))
    assert spec.noise is not None
    noise = spec.noise.model_copy(update={"trust": "distributed", "dropout": 0.05, "colluding": 0.05})
    layout = UsersNoise(spec.model_copy(update={"noise": noise}), spec.build(catalogue)).layout(packet.round)
    return layout.length * np.dtype(word(layout.bits)).itemsize


def answered(folder: Path, mode: str) -> dict[str, Any]:
    """Answer the question once, on a copy of the device, in a process of its own.

    Raises:
        InputError: when it fails or refuses.
    """
    copy = folder / f"of-{mode}"
    shutil.copytree(folder / "device", copy / "device")
    for name in ("asked.json", "asked.npz", "items.json", "items.csv", "events.csv"):
        shutil.copy(folder / name, copy)
    command = [sys.executable, "-m", "fedrec_sim.benchmarks.asked_device", str(copy), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    shutil.rmtree(copy)
    if done.returncode:
        raise InputError(f"bench device-round: {mode} failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["answer"] != exchange.SUMS:
        raise InputError(f"bench device-round: {mode} refused the question ({found['code']})")
    return found


def bytes_down(packet: Packet) -> dict[str, int]:
    """Return the bytes of the shared model by precision."""
    return {each: wire.size(wire.to_record(packet, each)) for each in PRECISIONS}
