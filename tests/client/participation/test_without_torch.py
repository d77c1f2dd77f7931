"""A device takes part in a whole round, gate, ledger, sums, noise and receipt, in a process that imports no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


@pytest.mark.parametrize("algorithm", ["popularity", "als"])
def test_a_round_imports_none_of_the_heavy_libraries(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = Recorded(tmp_path / "nodes")
    monkeypatch.setenv(*devices.environment())
    fresh = tmp_path / "fresh" / "one"
    shutil.copytree(devices.device(2, 0), fresh)
    shutil.copy(devices.device(2, 0).parent / "one.mark", fresh.parent)
    shape = ("algorithm.dim=2", "algorithm.rounds=1") if algorithm == "als" else ()
    devices.deploy(tmp_path / "run", "privacy.trust=local", f"algorithm.name={algorithm}", *shape)
    command = [sys.executable, "-c", ROUND, str(fresh), str(devices.folder / "asked.json")]
    command += [str(devices.folder / "items.json"), str(devices.folder / "node2" / "node.key"), str(tmp_path / "a.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == {"kind": "sums", "code": None, "noised": True, "receipt": True, "loaded": []}
    for name, given in devices.seen[2][0].sums.items():
        assert np.load(tmp_path / "a.npz")[name].shape == given.shape
    assert FEW.device.trust_days == 1
