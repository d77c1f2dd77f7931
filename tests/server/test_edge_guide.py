"""The first private contribution of docs/edge.md, word for word, with this machine as server, phone and hub."""

import subprocess
import sys
from pathlib import Path

import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.participation.store_mark import mark_of

from tests.docs.fences import blocks
from tests.server.faults import until
from tests.server.test_deploy_guide import Machine

GUIDE = (Path(__file__).parents[2] / "docs" / "edge.md").read_text(encoding="utf-8")
HERE = {"fed.example.org": "localhost", " --host 0.0.0.0": ""}


def commands() -> list[str]:
    section = GUIDE.split("\n### The first private contribution\n")[1].split("\n### ")[0]
    lines = [line for block in blocks(section, "bash") for line in block.splitlines()]
    assert len(lines) <= 20
    return lines


def folders_of_devices(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{n},film {n % 6} of {n}\n" for n in range(40)))
    (folder / "phone.csv").write_text("item_id,kind,timestamp\n" + "".join(f"{n * n},like,{n}\n" for n in range(6)))
    for user in range(59):
        device = folder / "hub" / str(user)
        with EdgeClient.open(device, KeyFile(device / "events.key")) as client:
            client.record_all(Event(str((user * 7 + n * n) % 40), "like", float(n)) for n in range(9))


@pytest.mark.slow
def test_the_first_private_contribution_in_twenty_lines(tmp_path: Path) -> None:
    folders_of_devices(tmp_path)
    machine, waiting = Machine(tmp_path), []
    with machine:
        for line in commands():
            words = line
            for there, here in HERE.items():
                words = words.replace(there, here)
            if "client hub" in line or "client participate" in line:
                command = [sys.executable, "-m", "fedrec.cli", *words.split()[1:]]
                with (tmp_path / f"{len(waiting)}.log").open("wb") as log:
                    options = {"cwd": tmp_path, "env": machine.environment, "stdin": subprocess.DEVNULL}
                    waiting.append(subprocess.Popen(command, **options, stdout=log, stderr=log))
            else:
                if "server run" in line:
                    for name in ("phone", "hub"):
                        until(lambda name=name: f"{name}  online" in machine("fedrec server status"))
                if line.startswith("fedrec client budget"):
                    assert waiting[1].wait(60) == 0
                shown = machine(words)
            if "policy init" in line:  # what the text says of a machine without NetworkManager, and a busy one
                file = tmp_path / "phone" / "policy.toml"
                policy = file.read_text().replace("unmetered = true", "unmetered = false")
                file.write_text(policy.replace("\nload = 0.5", "\nload = 0.0"))
        assert "als        local" in shown
        assert "Rounds that this device paid for: 2." in (tmp_path / "1.log").read_text()
        assert mark_of(tmp_path / "phone").exists()
        assert (tmp_path / "runs" / "first" / "release" / "model" / "model.safetensors").is_file()
        machine.nodes.append(waiting[0])
