"""Runs over a real federation in which something is killed: does every run end as if nothing had been?

    python tests/server/faults.py --kills 50 --seed 1 --out faults.jsonl

Each run is disturbed once, by SIGKILL to one process at a random moment. What a supervisor does is done: what ended is
started again with the same folders, and the run is resumed until it is finished. Then it must have the model of an
undisturbed run, bit for bit, a ledger that verifies, and at least its epsilon. Exits with 1 where that does not hold.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fedrec_server.pki import key_making, node_limits
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.status import server_status

from fedrec.errors import FedrecError
from fedrec.transport.processes import free_port, signals_interrupt
from fedrec.transport.state import State

FEDREC = [sys.executable, "-m", "fedrec.cli"]
SCENARIO = [
    "data.users=150", "data.items=60", "data.interactions_per_user=12", "seed=5",
    "algorithm.rounds=5", "algorithm.head_items=20", "privacy.evaluation_share=0.1", "privacy.trust=central",
]  # fmt: skip
VICTIMS = {
    "link": ("server", "fedrec_server.process.gate", False),
    "server": ("server", "server start", False),
    "app's executor": ("server", "fedrec_server.app:app", False),
    "app": ("server", "fedrec_server.app:app", True),
    "node": ("node", "fedrec.transport.supernode", False),
    "client": ("node", "client start", False),
    "users' executor": ("node", "fedrec_client.app:app", False),
    "users": ("node", "fedrec_client.app:app", True),
    "follower": ("run", "server run", False),
}
"""Who can be killed: below which command, a word of its command line, and whether it is the child that was forked."""

PATIENCE = 240.0
"""Seconds for anything; Flower takes up to one minute to notice that a node is gone."""


@dataclass
class Federation:
    """A server, nodes and a run, each a command as an operator starts it."""

    root: Path
    nodes: int
    port: int = field(default_factory=free_port)
    commands: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    nodes_started: int = 0
    victims: Mapping[str, tuple[str, str, bool]] = field(default_factory=lambda: VICTIMS)
    server_options: list[str] = field(default_factory=list)
    node_options: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        return State(self.root / "server")

    def start(self, name: str, *arguments: str, program: Sequence[str] = FEDREC) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.commands[name] = subprocess.Popen(
                [*program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def supervise(self) -> None:
        """Start again what has ended."""
        keys = self.root / "keys"
        if self.ended("server"):
            options = ["--keys", str(keys), "--state", str(self.state.path), "--port", str(self.port)]
            self.start("server", "server", "start", *options, *self.server_options)
        if self.state.running() is None:
            return  # not ready yet, or not again
        for n, (name, (key, _)) in enumerate(Keyring(keys).nodes.items()):
            if self.ended(name):
                options = ["--server", f"127.0.0.1:{self.port}", "--ca", str(keys / "ca.crt"), "--key", str(key)]
                options += ["--shard", f"{n}/{self.nodes}", "--state", str(self.root / f"state-{name}")]
                self.start(name, "client", "start", *options, *self.node_options)
                self.nodes_started += 1

    def ready(self) -> None:
        """Supervise until all nodes are online."""

        def there() -> bool:
            self.supervise()
            with contextlib.suppress(FedrecError):
                return sum(node["status"] == "online" for node in server_status(self.state)["nodes"]) >= self.nodes
            return False

        until(there)

    def ended(self, name: str) -> bool:
        return name not in self.commands or self.commands[name].poll() is not None

    def run(self, out: Path) -> None:
        changes = [f"--set={change}" for change in (*SCENARIO, f"engine.nodes={self.nodes}")]
        resume = ["--resume"] if (out / "release" / "scenario.toml").is_file() else []
        options = ["--out", str(out), "--state", str(self.state.path), *resume]
        self.start("run", "server", "run", "quickstart", *changes, *options)

    def kill(self, victim: str, rng: random.Random) -> bool:
        """Send it SIGKILL; False if it does not exist at the moment."""
        place, word, forked = self.victims[victim]
        name = rng.choice(list(Keyring(self.root / "keys").nodes)) if place == "node" else place
        if self.ended(name):
            return False
        for process in tree(self.commands[name].pid):
            if word in process.line and process.forked == forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                    return True
        return False

    def end(self) -> int:
        """Stop everything; how many processes were left that nobody had asked to stay."""
        below = {process.pid for command in self.commands.values() for process in tree(command.pid)}
        for name in sorted(self.commands, key=lambda name: name == "server"):
            if not self.ended(name):
                self.commands[name].terminate()
        for command in self.commands.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(60)
        left = [pid for pid in below if Path(f"/proc/{pid}").exists() and not zombie(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return len(left)


@dataclass
class Process:
    pid: int
    line: str
    forked: bool


def tree(pid: int) -> Iterator[Process]:
    """The process and all below it; forked where its command line is its parent's."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    todo = [pid]
    while todo:
        one = todo.pop()
        line = command_line(one)
        yield Process(one, line, line == command_line(parents.get(one, 0)))
        todo += [child for child, parent in parents.items() if parent == one]


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def zombie(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("waited for too long")
        time.sleep(0.2)


@contextlib.contextmanager
def federation(nodes: int, root: Path) -> Iterator[Federation]:
    with started(Federation(root, nodes)) as made:
        yield made


Made = TypeVar("Made", bound=Federation)


@contextlib.contextmanager
def started(made: Made) -> Iterator[Made]:
    nodes, root = made.nodes, made.root
    keyring = key_making.make(root / "keys", [], [f"node-{n}" for n in range(nodes)], datetime.now(UTC), 30)
    for name in keyring.nodes:
        node_limits.put(keyring, name, users=1000)
    try:
        with signals_interrupt():
            made.ready()
            yield made
    finally:
        left = made.end()
        assert left == 0, f"{left} processes were left"


def finish(world: Federation, out: Path) -> int:
    """Supervise and resume until the run in `out` is finished; how often it had to be resumed."""
    resumed = 0
    while True:
        until(lambda: world.supervise() or world.ended("run"))
        if world.commands["run"].returncode == 0:
            return resumed
        resumed += 1
        if resumed > 8:
            raise AssertionError(f"not finished after {resumed} resumptions; see {world.root}")
        world.ready()
        world.run(out)


def found(out: Path) -> dict[str, Any]:
    """Return the result of a run."""
    summary = json.loads((out / "private" / "summary.json").read_text())
    key = str(out / "release" / "privacy" / "ledger.pub")
    verdict = subprocess.run([*FEDREC, "audit", "verify", str(out), "--key", key], capture_output=True, text=True)
    return {
        "model": hashlib.sha256((out / "release" / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "verified": verdict.returncode == 0,
        "epsilon": summary["privacy"]["epsilon"],
        "rounds": summary["cost"]["rounds"],
        "absences": summary["nodes"]["absences"],
    }


def disturbed(
    world: Federation,
    kills: list[str],
    rng: random.Random,
    tell: Callable[[dict[str, Any]], None],
    latest: float = 0.9,
) -> list[dict[str, Any]]:
    """A run for each victim in `kills`, and before them two that nothing disturbs.

    latest: when a kill comes at the latest, as a part of what an undisturbed run takes.
    """
    for calm in (world.root / "first", world.root / "calm"):  # the first one also warms all processes
        began = time.monotonic()
        world.run(calm)
        if finish(world, calm):
            raise AssertionError(f"the undisturbed run did not finish; see {world.root}")
    length, expected = time.monotonic() - began, found(calm)
    assert expected["model"] == found(world.root / "first")["model"], "the same seed ends with other bits"
    results = []
    for number, victim in enumerate(kills):
        out, after = world.root / f"run-{number}", rng.uniform(0.5, latest * length)
        world.ready()
        world.nodes_started = 0
        began = time.monotonic()
        world.run(out)
        time.sleep(after)
        hit = False
        while not hit and not world.ended("run"):
            hit = world.kill(victim, rng)
            time.sleep(0.05)
        resumed = finish(world, out)
        told = {"kill": number, "victim": victim, "after": round(after, 1), "hit": hit, "resumed": resumed}
        told |= {"seconds": round(time.monotonic() - began, 1), "undisturbed": round(length, 1)}
        told["clients_started"] = world.nodes_started
        got = found(out)
        same = {"same_model": got["model"] == expected["model"], "verified": got["verified"]}
        result = told | same | {"epsilon_covers": got["epsilon"] >= expected["epsilon"], "absences": got["absences"]}
        results.append(result)
        tell(result)
    return results


def holds(result: dict[str, Any]) -> bool:
    """A client is started again only where it was the victim: it goes on whatever else dies."""
    kept = result["clients_started"] == (result["victim"] == "client" and result["hit"])
    return bool(result["same_model"] and result["verified"] and result["epsilon_covers"] and kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON line for each run")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    names = list(VICTIMS)
    kills = [names[n % len(names)] for n in range(options.kills)]
    rng.shuffle(kills)

    def tell(result: dict[str, Any]) -> None:
        print(json.dumps(result), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")

    root = Path(tempfile.mkdtemp(prefix="fedrec-faults-"))
    with federation(options.nodes, root) as world:
        results = disturbed(world, kills, rng, tell)
    good = sum(map(holds, results))
    print(f"{good} of {len(results)} runs ended as if nothing had been; {sum(r['hit'] for r in results)} kills hit")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
