"""The commands of docs/deploy.md that start something, word for word, with this machine as both machines."""

import fcntl
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedrec.audit.log.ledger import read_ledger
from fedrec.transport.state import State
from tests.docs.fences import blocks
from tests.server.faults import until

GUIDE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
SMALL = "quickstart --set federation.patience=60 --set algorithm.rounds=3"
HERE = {
    "fed.example.org": "localhost",
    "helper.example.org": "localhost",
    "192.0.2.10": "127.0.0.1",
    "0.0.0.0": "127.0.0.1",
    "cuda": "cpu",
    "run ml-1m-dp": "run quickstart",
    " --dataset ml-1m": "",
    "quickstart": SMALL,
}


def commands(heading: str) -> list[str]:
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for block in blocks(section, "bash") for line in block.splitlines() if line.startswith("fedrec ")]
    for there, here in HERE.items():
        lines = [line.replace(there, here) for line in lines]
    assert lines
    return lines


class Machine:
    """Runs commands in a folder that is also the home; a `client start` goes on until the end.

    The guides name one port, so one test at a time is inside.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes, self.follow = folder, [], False
        self.environment = os.environ | {"HOME": str(folder)}
        self.environment.pop("FEDREC_DATA", None)

    def __call__(self, line: str) -> str:
        command = [sys.executable, "-m", "fedrec.cli", *shlex.split(line)[1:]]
        options = {"cwd": self.folder, "env": self.environment, "stdin": subprocess.DEVNULL}
        if "client start" in line or "helper start" in line or ("server run" in line and self.follow):
            with (self.folder / f"node-{len(self.nodes)}.log").open("wb") as log:
                self.nodes.append(subprocess.Popen(command, **options, stdout=log, stderr=log))
            return ""
        done = subprocess.run(command, **options, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def __enter__(self) -> "Machine":
        self.turn = (Path(tempfile.gettempdir()) / f"fedrec-guides-{os.getuid()}.lock").open("w")
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 9092)) == 0:
                self.turn.close()
                pytest.skip("something listens at port 9092, the one of the guide")
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.wait(60)
        stopped = self("fedrec server stop")
        self.turn.close()
        assert stopped == "stopped\n"


def own_data(folder: Path) -> None:
    events = [f"{user},{(user * 7 + n * n) % 40},{n}" for user in range(60) for n in range(9)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *events]) + "\n")
    items = [f"{item},film {item % 6} of {item}" for item in range(40)]
    (folder / "items.csv").write_text("\n".join(["item_id,title", *items]) + "\n")


@pytest.mark.slow
def test_on_one_machine(tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    machine = Machine(tmp_path)
    for line in commands("On one machine in three minutes"):
        if line == "fedrec server local":
            line += " --nodes 3 --set algorithm.rounds=3"
        told = machine(line.replace("ml-100k-dp --nodes 8", f"{SMALL} --nodes 3").removesuffix(" --open"))
    assert str(Path("runs") / "local") in told
    assert {path.name.rpartition("-")[0] or path.name for path in (tmp_path / "runs").iterdir()} >= {"local"}
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.slow
def test_two_machines_from_nothing_and_a_simulation_over_several(tmp_path: Path) -> None:
    two_machines(tmp_path / "two")
    several_machines(tmp_path / "several")


def two_machines(folder: Path) -> None:
    folder.mkdir()
    own_data(folder)
    told = {}
    with Machine(folder) as machine:
        for line in commands("Two machines, from nothing"):
            told[line] = machine(line)
            if "keys init" in line:
                shutil.copy(folder / "keys" / "ca.crt", folder)  # what the text says in words
            if "client start" in line:
                until(lambda: "clinic-a  online" in machine("fedrec server status"))
        machine("fedrec audit verify runs/first --key runs/first/release/privacy/ledger.pub")
    assert "clinic-a  online" in told["fedrec server status"]
    assert (folder / "runs" / "first" / "private" / "summary.json").is_file()


def several_machines(folder: Path) -> None:
    folder.mkdir()
    (folder / "DATA").mkdir()
    told = {}
    with Machine(folder) as machine:
        for line in commands("A simulation over several machines"):
            told[line] = machine(line)
            if "keys init" in line:
                for name in ("ca.crt", "nodes/gpu-a.key", "nodes/gpu-b.key"):
                    shutil.copy(folder / "keys" / name, folder)
            if "client start" in line:
                machine(line.replace("gpu-a.key", "gpu-b.key --state b").replace("0/2", "1/2"))
    assert "HR@10" in told["fedrec evaluate runs/spread --data-dir DATA"]


@pytest.mark.slow
def test_a_helper_that_is_killed_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The commands of the guide over real processes with TLS; the helper dies after it opened a round."""
    own, names = "A helper for secure sums", ("a", "b", "c", "d")
    with Machine(tmp_path) as machine:
        machine("fedrec keys init keys --users 10000 " + " ".join(f"--node {name}" for name in names))
        for line in commands(own):
            machine.follow = "server run" in line
            shown = machine(line)
            if "helper init" in line:
                shutil.copy(tmp_path / "helper" / "helper.pub", tmp_path)
            if "helper start" in line:
                start, helper = line, machine.nodes[-1]
                until(lambda: State(tmp_path / "helper").running() is not None)
            if "helper show" in line:
                pinned = shown.strip().splitlines()[-1].partition("[server]: ")[2]
                (tmp_path / "policy.toml").write_text(f"[server]\n{pinned}\n")
                for n, name in enumerate(names):
                    options = f"--ca keys/ca.crt --key keys/nodes/{name}.key --shard {n}/4 --policy policy.toml"
                    machine(f"fedrec client start --server localhost:9092 {options} --state state-{name}")
                until(lambda: machine("fedrec server status").count("online") == len(names))
        followed, note = machine.nodes[-1], tmp_path / "runs/helped/release/privacy/witness-helper.note"
        until(lambda: note.exists() or followed.poll() is not None)
        helper.kill()
        helper.wait()
        machine(start)
        until(lambda: followed.poll() is not None)
        assert followed.returncode == 0, [log.read_text()[-500:] for log in sorted(tmp_path.glob("node-*.log"))]
        machine("fedrec audit verify runs/helped --key runs/helped/release/privacy/ledger.pub")
    entries, _ = read_ledger(tmp_path / "runs/helped/release/privacy/ledger.jsonl")
    charged = [entry.payload["round"] for entry in entries if entry.payload["type"] == "charge"]
    assert len(charged) >= 3
    assert charged == list(range(len(charged))), "the helper came back in time, so no round was void"
