"""A device takes part in a whole round, gate, ledger, sums, noise and receipt, in a process that imports no torch."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.participation.device_node import UserNode

from fedrec.federation import exchange
from fedrec.wire import Packet
from tests.client.participation.devices_over_nodes import FEW, Devices

ABSENT = ("torch", "flwr", "opacus", "scipy", "polars", "pydantic")
ROUND = f"""
import json, sys
from pathlib import Path
import numpy as np
import fedrec_client.edge.client
from fedrec.transport.node_key import load_node_key
from fedrec.wire import Packet
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.policy import load
from fedrec_client.node import COMPUTED
from fedrec_client.participation.device_node import device_node
from fedrec_client.run_gate import RunGate

folder, asked, items, key, out = map(Path, sys.argv[1:])
policy = load(folder / "policy.toml")
ledger = DeviceLedger(folder / FILE, policy)
gate = RunGate(folder / "runs", key=load_node_key(key))
config = {{"store": str(folder), "items": str(items)}}
node = device_node(config, policy, gate, Consent(policy, ledger, COMPUTED))
about, tensors = json.loads(asked.read_text()), np.load(asked.with_suffix(".npz"))
question = Packet(**about, tensors={{name: tensors[name] for name in tensors.files}})
answer = node.answer(question)
print(json.dumps({{"kind": answer.kind, "code": answer.facts.get("code"), "noised": answer.facts.get("noised"),
    "receipt": "receipt" in answer.facts, "loaded": [name for name in {ABSENT!r} if name in sys.modules]}}))
np.savez(out, **answer.tensors)
"""


class Recorded(Devices):
    """Devices whose questions to the single one are written to files."""

    def node(self, n: int, **options: object) -> UserNode:
        made = super().node(n, **options)
        answer = made.answer

        def noted(packet: Packet) -> Packet:
            if n == 2 and packet.kind == exchange.SUM:
                about = {"kind": packet.kind, "fingerprint": packet.fingerprint, "round": packet.round}
                (self.folder / "asked.json").write_text(json.dumps(about | {"facts": dict(packet.facts)}))
                np.savez(self.folder / "asked.npz", **packet.tensors)
            return answer(packet)

        made.answer = noted
        return made


KILLED = """
import os, signal, sys
done = 0

def dying(name):
    exact = getattr(os, name)

    def made(*given, **named):
        global done
        done += 1
        if done == int(sys.argv[-1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return exact(*given, **named)

    setattr(os, name, made)

for name in ("fsync", "write", "replace", "rename"):
    dying(name)
"""
"""Ends the process by SIGKILL before its n-th call that changes a file; n is the last argument."""


def answered(folder: Path, devices: Devices, out: Path, kill: int | None = None) -> subprocess.CompletedProcess[str]:
    """Have a process of its own answer the recorded question, or be killed in it."""
    script = ROUND if kill is None else KILLED + ROUND.replace("sys.argv[1:]", "sys.argv[1:-1]")
    command = [sys.executable, "-c", script, str(folder), str(devices.folder / "asked.json")]
    command += [str(devices.folder / "items.json"), str(devices.folder / "node2" / "node.key"), str(out)]
    command += [] if kill is None else [str(kill)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Devices, and a copy of the single one as it was before the question to it, in `fresh`."""
    devices = Recorded(tmp_path / "nodes")
    monkeypatch.setenv(*devices.environment())
    shutil.copytree(devices.device(2, 0), tmp_path / "fresh" / "one")
    shutil.copy(devices.device(2, 0).parent / "one.mark", tmp_path / "fresh")
    return devices


@pytest.mark.slow
def test_a_kill_before_any_change_of_a_file_leaves_no_answer_without_its_charge(
    recorded: Recorded, tmp_path: Path
) -> None:
    recorded.deploy(tmp_path / "run", "privacy.trust=local")
    kills, kept = 0, []
    while True:
        place = tmp_path / f"kill{kills}"
        shutil.copytree(tmp_path / "fresh", place)
        done = answered(place / "one", recorded, tmp_path / "a.npz", kills + 1)
        left = '"kind": "sums"' in done.stdout
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        ledger = DeviceLedger(place / "one" / FILE, FEW)
        ledger.open()
        assert ledger.blocked_until is None
        assert ledger.kinds["charge"] >= left
        kept.append(ledger.kinds["charge"])
        if kills % 4:
            continue
        again = answered(place / "one", recorded, tmp_path / "a.npz")
        assert json.loads(again.stdout)["kind"] == "sums", again.stderr
        ledger.open()
        assert ledger.kinds["charge"] == kept[-1] + 1, "a charge whose answer is lost stays, and the next one pays"
    assert left
    assert kills > 10
    assert {0, 1} <= set(kept), "kills before and after the charge"


@pytest.mark.parametrize("algorithm", ["popularity", "als"])
def test_a_round_imports_none_of_the_heavy_libraries(algorithm: str, recorded: Recorded, tmp_path: Path) -> None:
    als = ("algorithm.dim=2", "algorithm.rounds=1", "algorithm.popularity_share=0.0")  # its own sums come first
    shape = als if algorithm == "als" else ()
    recorded.deploy(tmp_path / "run", "privacy.trust=local", f"algorithm.name={algorithm}", *shape)
    done = answered(tmp_path / "fresh" / "one", recorded, tmp_path / "a.npz")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == {"kind": "sums", "code": None, "noised": True, "receipt": True, "loaded": []}
    for name, given in recorded.seen[2][0].sums.items():
        assert np.load(tmp_path / "a.npz")[name].shape == given.shape
    assert FEW.device.trust_days == 1
