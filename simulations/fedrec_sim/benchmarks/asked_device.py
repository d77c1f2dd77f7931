"""One round of a device as a program of its own: gate, device ledger, store, sums, noise and receipt.

`python -m fedrec_sim.benchmarks.asked_device FOLDER MODE` answers the question in FOLDER that `asked_round` recorded,
and prints its figures as JSON.

| MODE | what answers |
|---|---|
| `numpy` | a device |
| `flower` | the same, after importing Flower's ClientApp, as in a deployment |
| `torch` | a node of a log with one user |
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.policy import load
from fedrec_client.node import COMPUTED, UserNode
from fedrec_client.run_gate import RunGate

HEAVY = ("torch", "flwr", "opacus", "scipy", "polars", "pydantic")


def node_of(folder: Path, mode: str) -> UserNode:
    """Return the node that answers."""
    from fedrec.transport.node_key import load_node_key

    device = folder / "device"
    policy = load(device / "policy.toml")
    gate = RunGate(device / "runs", key=load_node_key(device / "node.key"))
    consent = Consent(policy, DeviceLedger(device / FILE, policy), COMPUTED)
    if mode == "torch":
        from fedrec_client.sources import finder

        files = {"data": str(folder / "events.csv"), "catalogue": str(folder / "items.csv")}
        return UserNode(finder(files), gate=gate, consent=consent)
    from fedrec_client.participation.device_node import device_node

    return device_node({"store": str(device), "items": str(folder / "items.json")}, policy, gate, consent)


def main(folder: Path, mode: str) -> dict[str, Any]:
    """Answer the recorded question. Returns: CPU seconds and peak memory of this process, and what left it."""
    from fedrec.wire import Packet

    if mode == "flower":
        import fedrec_client.app  # noqa: F401
    about, tensors = json.loads((folder / "asked.json").read_text()), np.load(folder / "asked.npz")
    given: dict[str, Any] = {name: tensors[name] for name in tensors.files}
    if mode == "torch":
        import torch

        given = {name: torch.from_numpy(tensor.copy()) for name, tensor in given.items()}
    answer = node_of(folder, mode).answer(Packet(**about, tensors=given))
    spent = time.process_time()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    return {
        "answer": answer.kind,
        "code": answer.facts.get("code"),
        "cpu_s": spent,
        "peak_rss_mb": peak,
        "bytes_up": sum(int(tensor.nbytes) for tensor in answer.tensors.values()),
        "imported": [name for name in HEAVY if name in sys.modules],
    }


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), sys.argv[2]), sys.stdout)
