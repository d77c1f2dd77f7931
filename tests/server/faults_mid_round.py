"""Kills in the middle of rounds of trust model `distributed`: server, helper and nodes, each a process of its own.

    python -m tests.server.faults_mid_round --runs 20 --kills 4 --seed 1 --out faults.jsonl

A process that is to die counts the moments at which it touches the disk or the network: before and after every fsync,
rename and link, before it works on a message, and before its answer leaves. At one of them, drawn at random, it sends
SIGKILL to itself. What ended is started again with the same folders, and the run is resumed until it is finished, or
its budget is used up. Then `Found.faults` says what must hold, as in `tests.server.faults_distributed`.

Processes are forks that talk over sockets, without Flower and TLS, so that a round takes less than a second and a kill
hits it for sure. Exits with 1 where something does not hold.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fedrec_client.app import _node
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger
from fedrec_server.helper.keys import HelperKeys
from fedrec_server.helper.link import HelperAway, HelperRefused
from fedrec_server.helper.messages import CosignRequest, HelperAnswer, RoundRequest
from fedrec_server.helper.service import HeadUnknown, HelperService
from fedrec_server.pki.node_limits import VARIABLE
from fedrec_sim.benchmarks.dropping_app import note_vectors

from fedrec.audit.log.keys import default_key
from fedrec.cli import run as fedrec
from fedrec.errors import BudgetExhausted, FedrecError
from fedrec.federation import exchange
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from fedrec.transport.node_key import load_node_key, new_node_key
from fedrec.wire import WireError
from tests.server.carded import FIRST
from tests.server.fatal import Fatal, call, serve
from tests.server.faults_distributed import found
from tests.server.grid_in_memory import MemoryGrid
from tests.server.noted_noise import note_helper_noise, without_noise

FORK = get_context("fork")
SCENARIO = [
    "data.users=60", "data.items=20", "data.interactions_per_user=6", "algorithm.name=als", "algorithm.dim=2",
    "algorithm.popularity_share=0.0",
    "privacy.trust=distributed", "privacy.dropout=0.3", "federation.deadline=2", "federation.patience=20",
]  # fmt: skip
AGGREGATORS = {
    "peers": ["privacy.aggregator=peers", "privacy.colluding=0.0"],
    "helper": ["privacy.aggregator=helper", "privacy.colluding=0.0"],
    "both": ["privacy.noise_by=aggregators"],
}
"""Who keeps the masks; of "both", server and helper add the noise, too."""
POINTS = {"server": 90, "helper": 30, "node": 25}
"""Kills are drawn among as many moments, some more than a round has."""
EXHAUSTED, FAILED = 3, 5
LONGEST = 300.0


class Grid(MemoryGrid):
    """Nodes in processes; one that is away sends no reply."""

    def _answer(self, identity: str, node: int, message: Any) -> None:
        with contextlib.suppress(OSError, EOFError):
            super()._answer(identity, node, message)


class Remote:
    """A node or a helper in its process."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def answer(self, packet: Any) -> Any:
        return call(self.place, packet)


class FarHelper(Remote):
    """A helper that is asked again until a deadline, as `HelperLink` does."""

    def __init__(self, place: Path, folder: Path) -> None:
        super().__init__(place)
        self.named = HelperKeys(folder).public.helper

    def there(self, until: float) -> None:
        self._asked(None, until)

    def cosign(self, asked: CosignRequest, until: float) -> HelperAnswer:
        return HelperAnswer.decode(self._asked(asked, until))

    def open(self, asked: RoundRequest, until: float) -> HelperAnswer:
        return HelperAnswer.decode(self._asked(asked, until))

    def _asked(self, asked: Any, until: float) -> bytes:
        while True:
            try:
                content, refusal, seen = call(self.place, asked)
                if refusal:
                    raise HelperRefused(refusal, seen)
                return content
            except (OSError, EOFError):
                if time.monotonic() > until:
                    raise HelperAway("the helper does not answer") from None
                time.sleep(0.02)


def node(world: "World", n: int, left: Any) -> None:
    note_vectors(world.seen)
    config = {"partition-id": n, "num-partitions": world.nodes, "key": str(world.key(n)), "state": str(world.device(n))}
    made, fatal = _node(json.dumps(config), world.policy), Fatal(left)
    fatal.watch()

    def work(packet: Any) -> Any:
        try:
            return made.answer(packet)
        except WireError as error:
            return exchange.refusal(error.code, packet)

    serve(world.place(f"node{n}"), work, fatal)


def helper(world: "World", left: Any) -> None:
    note_helper_noise(world.seen)
    service, fatal = HelperService(world.helper, HelperKeys(world.helper)), Fatal(left)
    fatal.watch()

    def work(asked: Any) -> tuple[bytes, str, int | None]:
        try:
            if asked is None:
                return b"", "", None
            return (service.cosign if isinstance(asked, CosignRequest) else service.open)(asked).encode(), "", None
        except HeadUnknown as error:
            return b"", str(error), error.seen
        except FedrecError as error:
            return b"", str(error), None

    serve(world.place("helper"), work, fatal)


def server(world: "World", out: Path, aggregator: str, left: Any) -> None:
    if aggregator == "both":
        without_noise(world.seen)
    note_vectors(world.seen)
    os.environ[VARIABLE] = str(world.limits)
    fatal = Fatal(left)
    fatal.watch()
    settings = [*SCENARIO, *AGGREGATORS[aggregator], f"engine.nodes={world.nodes}", f"algorithm.rounds={world.rounds}"]
    scenario = load_scenario("quickstart", settings)
    grid = Grid({FIRST + n: Remote(world.place(f"node{n}")) for n in range(world.nodes)})  # type: ignore[dict-item]
    access = FarHelper(world.place("helper"), world.helper) if aggregator != "peers" else None
    resume = (out / "release" / "scenario.toml").is_file()
    try:
        made = Deployment(scenario, RunDirectory(out), Messenger(grid, poll=0.005), resume=resume, helper=access)
        world.leave(EXHAUSTED if made.run()[1] else 0)
    except BudgetExhausted:
        world.leave(EXHAUSTED)
    except FedrecError as error:
        world.say(f"server: {error}")
        world.leave(FAILED)


@dataclass
class World:
    """Folders and processes of a federation.

    Attributes:
        root: of all folders.
        nodes: how many.
        rounds: of a run.
        alive: processes by name.
        left: moments that each process has to live; 0 for no end.
    """

    root: Path
    nodes: int = 4
    rounds: int = 6
    alive: dict[str, BaseProcess] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = {}
        self.seen.mkdir()
        for n in range(self.nodes):
            self.device(n).mkdir()
            new_node_key(self.key(n))
            key = load_node_key(self.key(n)).public.line
            limits[FIRST + n] = {"name": f"n{n}", "users": 60 // self.nodes, "key": key}
        self.limits.write_text(json.dumps(limits))
        HelperKeys.made(self.helper)
        self.left = {name: FORK.Value("i", 0, lock=False) for name in self.names}

    @property
    def names(self) -> list[str]:
        return ["server", "helper", *(f"node{n}" for n in range(self.nodes))]

    @property
    def seen(self) -> Path:
        return self.root / "seen"

    @property
    def limits(self) -> Path:
        return self.root / "limits.json"

    @property
    def helper(self) -> Path:
        return self.root / "helper"

    @property
    def policy(self) -> str:
        pinned = HelperKeys(self.helper).public.helper.key.text
        keys = f'ledger_keys = ["{default_key().public.text}"]'
        return f'[server]\n{keys}\nhelpers = ["{pinned}"]\n[run]\nrepeats = 50\nnoise_by = ["users", "aggregators"]\n'

    def device(self, n: int) -> Path:
        return self.root / f"device{n}"

    def key(self, n: int) -> Path:
        return self.device(n) / "node.key"

    def place(self, name: str) -> Path:
        return self.root / f"{name}.socket"

    def say(self, line: str) -> None:
        with (self.root / "log").open("a") as file:
            file.write(line + "\n")

    def leave(self, code: int) -> None:
        os._exit(code)

    def start(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        def quiet() -> None:
            with (self.root / f"{name}.log").open("a") as log, contextlib.redirect_stderr(log):
                target(self, *arguments, self.left[name])

        self.alive[name] = FORK.Process(target=quiet, daemon=True)
        self.alive[name].start()

    def supervise(self) -> list[str]:
        """Start again nodes and helper that have ended; return which."""
        ended = [name for name in self.names[1:] if name not in self.alive or not self.alive[name].is_alive()]
        for name in ended:
            self.start(name, *((helper,) if name == "helper" else (node, int(name.removeprefix("node")))))
        return ended

    def end(self) -> None:
        for process in self.alive.values():
            process.kill()
            process.join()


def disturb(world: World, out: Path, aggregator: str, kills: list[str], rng: random.Random) -> dict[str, Any]:
    """A run with kills, one after the other: what died, and how the server's processes ended."""
    world.supervise()
    due, died, codes, began = list(kills), [], [], time.monotonic()
    armed = ""
    world.start("server", server, out, aggregator)
    while True:
        for name in world.supervise():
            died.append(name)
        process = world.alive["server"]
        if not process.is_alive():
            process.join()
            codes.append(process.exitcode)
            if codes[-1] == -signal.SIGKILL:
                died.append("server")
            if codes[-1] in (0, EXHAUSTED):
                break
            if len(codes) > 40:
                raise AssertionError(f"not finished after {len(codes)} tries; see {world.root}")
            if not (out / "release" / "scenario.toml").is_file():
                shutil.rmtree(out, ignore_errors=True)  # it ended before anything was charged
            world.start("server", server, out, aggregator)
        if due and (not armed or armed in died[-1:]):
            kind = due.pop(0)
            armed = rng.choice(world.names[2:]) if kind == "node" else kind
            died.append("") if armed in died[-1:] else None
            world.left[armed].value = rng.randint(1, POINTS[kind])
        if time.monotonic() > began + LONGEST:
            raise AssertionError(f"not finished after {LONGEST:.0f} seconds; see {world.root}")
        time.sleep(0.01)
    for left in world.left.values():
        left.value = 0
    return {"killed": [name for name in died if name], "codes": codes, "seconds": round(time.monotonic() - began, 1)}


def verify(arguments: list[str]) -> str:
    """Run a command of `fedrec` here; return what it said where it failed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = fedrec(arguments)
    return out.getvalue() if code else ""


def disturbed(root: Path, runs: list[tuple[str, list[str]]], seed: int, rounds: int, say: Callable[[Any], None]) -> int:
    """A run for each aggregator and list of victims: how many kills were made, and what does not hold, by `say`."""
    world, rng, made = World(root, rounds=rounds), random.Random(seed), 0
    try:
        for number, (aggregator, kills) in enumerate(runs):
            out = root / f"run{number}"
            ended = disturb(world, out, aggregator, kills, rng)
            devices = [world.device(n) for n in range(world.nodes)]
            what = found(world.seen, devices, out, verify)
            made += len(ended["killed"])
            facts = {"charges": len(what.charges), "right": what.right, "wrong": what.wrong, "faults": what.faults}
            say({"run": number, "aggregator": aggregator, **ended, **facts})
    finally:
        world.end()
    return made


def drawn(runs: int, kills: int, rng: random.Random) -> list[tuple[str, list[str]]]:
    """Victims of some runs: server, node and helper in turn, the helper where there is one."""
    found = []
    for number in range(runs):
        aggregator = ("helper", "both", "peers")[number % 3]
        names = ["server", "node"] if aggregator == "peers" else ["helper", "server", "node"]
        victims = [names[n % len(names)] for n in range(kills)]
        rng.shuffle(victims)
        found.append((aggregator, victims))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--kills", type=int, default=4, help="in a run")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON line for each run")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []

    def say(result: dict[str, Any]) -> None:
        results.append(result)
        print(json.dumps(result), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")

    root = Path(tempfile.mkdtemp(prefix="fedrec-mid-round-"))
    runs = drawn(options.runs, options.kills, random.Random(options.seed))
    made = disturbed(root, runs, options.seed, options.rounds, say)
    good = sum(not result["faults"] for result in results)
    print(f"{good} of {len(results)} runs hold; {made} kills were made; {root}")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
