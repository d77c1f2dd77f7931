"""Runs of trust model `distributed` in which processes are killed: is every total right, and everything charged?

    python -m tests.server.faults_distributed --runs 5 --kills 4 --aggregator helper --seed 1 --out faults.jsonl

`distributed` refuses a seed, so a repeated round has other noise, and no model can be compared. Each run is disturbed
several times, by SIGKILL to one process at a random moment. What a supervisor does is done, and the run is resumed
until it is finished, or its budget is used up. Then `Found.faults` says what must hold. Nodes and server note vectors
and totals as in `fedrec bench dropping`. Exits with 1 where something does not hold.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrec_server.helper.keys import PUBLIC
from fedrec_server.helper.named import NamedHelper
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.run_client import RunClient, RunFailed
from fedrec_sim.benchmarks.dropping import APPS, EXHAUSTED, compared
from fedrec_sim.benchmarks.dropping_app import FOLDER, SHARE

from fedrec.audit.card.receipt import parse_receipt
from fedrec.audit.log.ledger import read_ledger
from fedrec.errors import FedrecError
from fedrec.run.directory import RunDirectory
from fedrec.transport.processes import free_port
from fedrec.transport.state import State
from tests.server.faults import FEDREC, Federation, started

SCENARIO = [
    "algorithm.name=als", "algorithm.popularity_share=0.0", "algorithm.dim=4", "data.users=80", "data.items=60",
    "data.interactions_per_user=12", "privacy.trust=distributed", "privacy.dropout=0.45", "privacy.colluding=0.0",
    "federation.deadline=15", "federation.patience=60",
]  # fmt: skip
VICTIMS = {
    "node": ("node", "fedrec.transport.supernode", False),
    "users": ("node", APPS.client, True),
    "users' executor": ("node", APPS.client, False),
    "client": ("node", "client start", False),
    "link": ("server", "fedrec_server.process.gate", False),
    "server": ("server", "server start", False),
    "app": ("server", APPS.server, True),
    "follower": ("run", "--follow", False),
    "helper": ("helper", "helper start", False),
}
"""Who can be killed, as in `faults.VICTIMS`; the helper where there is one."""

LONGEST = 900.0
"""Seconds that a run may take with all its resumptions."""
MOST_RESUMPTIONS = 60


@dataclass
class Helped(Federation):
    """A federation that notes vectors and totals, with a helper where the runs have one."""

    helper: bool = False
    rounds: int = 10
    helper_port: int = field(default_factory=free_port)

    def supervise(self) -> None:
        if self.helper and not self._helper_there():
            return
        super().supervise()

    def _helper_there(self) -> bool:
        place = self.root / "helper"
        if self.ended("helper"):
            self.start("helper", "helper", "start", str(place), "--listen", f"127.0.0.1:{self.helper_port}")
        facts, policy = State(place).running(), self.root / "policy.toml"
        if facts is not None and not policy.exists():
            policy.write_text(f'[server]\nhelpers = ["{facts["key"]}"]\n', encoding="utf-8")
            self.server_options += NamedHelper(facts["address"], place / PUBLIC).options
            self.node_options += ["--policy", str(policy)]
        return facts is not None

    def run(self, out: Path) -> None:
        aggregator = "helper" if self.helper else "peers"
        more = [f"engine.nodes={self.nodes}", f"algorithm.rounds={self.rounds}", f"privacy.aggregator={aggregator}"]
        resume = (out / "release" / "scenario.toml").is_file()
        config = {"scenario": "quickstart", "set": "\n".join([*SCENARIO, *more]), "out": str(out), "resume": resume}
        program = [sys.executable, "-m", "tests.server.faults_distributed", "--follow"]
        self.start("run", str(self.state.path), json.dumps({**config, "data-dir": ""}), program=program)

    def devices(self) -> list[Path]:
        """Folders of the nodes, in the order of their shards."""
        return [self.root / f"state-{name}" for name in Keyring(self.root / "keys").nodes]


@contextmanager
def federation(nodes: int, root: Path, aggregator: str, rounds: int) -> Iterator[Helped]:
    seen = root / "seen"
    seen.mkdir()
    os.environ.update({FOLDER: str(seen), SHARE: "0"})
    made = Helped(root, nodes, victims=VICTIMS, helper=aggregator == "helper", rounds=rounds)
    made.server_options, made.node_options = ["--app", APPS.server], ["--app", APPS.client]
    try:
        with started(made) as world:
            yield world
    finally:
        del os.environ[FOLDER], os.environ[SHARE]


@dataclass
class Found:
    """What a run left behind.

    charges: round of each charge in the run's ledger, by its record.
    totals: numbers of the charges whose totals were unmasked, and how many totals are right and wrong.
    masked: by node, numbers of the charges for which it masked a vector.
    device: by node, how often its own ledger charges each round.
    answered: by node, how often the server holds its receipt for a round.
    unknown: receipts that the server holds, and no device.
    broken: commands that did not verify a ledger.
    """

    charges: dict[int, int]
    totals: list[int]
    right: int
    wrong: int
    masked: list[list[int]]
    device: list[Counter[int]]
    answered: list[Counter[int]]
    unknown: int
    broken: list[str]

    @property
    def faults(self) -> list[str]:
        """What does not hold."""
        found = [f"{self.wrong} totals are wrong"] if self.wrong else []
        found += [f"a total of {n}, which is no charge" for n in self.totals if n not in self.charges]
        found += [f"{n} was unmasked twice" for n, times in Counter(self.totals).items() if times > 1]
        for node, (masked, device, answered) in enumerate(zip(self.masked, self.device, self.answered, strict=True)):
            found += [f"node {node} masked for {n}, which is no charge" for n in masked if n not in self.charges]
            left = Counter(self.charges[n] for n in set(masked) if n in self.charges)
            for what, counted in (("masked", left), ("answered", answered)):
                less = counted - device
                found += [f"node {node} {what} round {r} {counted[r]} times, charged {device[r]}" for r in less]
        found += [f"{self.unknown} receipts that no device holds"] if self.unknown else []
        return found + self.broken


def found(seen: Path, devices: list[Path], out: Path, verify: Callable[[list[str]], str]) -> Found:
    """Read what a run left, and remove the notes of its vectors.

    Args:
        seen: folder of the notes.
        devices: folders of the nodes, in the order of their shards.
        out: the run's.
        verify: runs a command of `fedrec`, and returns what it said where it failed.
    """
    entries = read_ledger(RunDirectory(out).ledger)[0]
    charges = {n: entry.payload["round"] for n, entry in enumerate(entries) if entry.payload["type"] == "charge"}
    held = [json.loads(line)["receipts"] for line in (out / "private" / "receipts.jsonl").read_text().splitlines()]
    server = {text for texts in held for text in texts}
    run = parse_receipt(next(iter(server))).run
    own = [list(device.rglob(f"{run}.receipts")) for device in devices]
    texts = [{json.loads(line)["receipt"] for file in files for line in file.read_text().splitlines()} for files in own]
    right, wrong, _, _ = compared(seen, len(devices))
    (card,) = {path.stem.split("-")[1].split(".")[0] for path in seen.glob("[tv]*-*")}
    result = Found(
        charges=charges,
        totals=[_number(path.stem) for path in seen.glob("total-*.npz")],
        right=right,
        wrong=wrong,
        masked=[[_number(path.stem) for path in seen.glob(f"vector-*-{n}.npy")] for n in range(len(devices))],
        device=[_charged(device / "device-ledger.jsonl", card) for device in devices],
        answered=[Counter(parse_receipt(text).round_index for text in server & mine) for mine in texts],
        unknown=len(server.difference(*texts)),
        broken=[],
    )
    receipts = [f"--receipts={file}" for files in own for file in files]
    key = str(out / "release" / "privacy" / "ledger.pub")
    commands = [["audit", "verify", str(out), "--key", key, *receipts]]
    for command in commands + [["client", "ledger", "verify", str(device)] for device in devices]:
        if said := verify(command):
            result.broken.append(f"{' '.join(command[:3])}: {said}")
    for path in seen.iterdir():
        path.unlink()
    return result


def in_a_process(command: list[str]) -> str:
    """Run a command of `fedrec`; return what it said where it failed."""
    verdict = subprocess.run([*FEDREC, *command], capture_output=True, text=True, check=False)
    return (verdict.stdout + verdict.stderr or "failed") if verdict.returncode else ""


def _number(stem: str) -> int:
    return int(stem.split(".")[1].split("-")[0])


def _charged(ledger: Path, card: str) -> Counter[int]:
    """Charges by round of a device's ledger, which names a run by the digest of its card."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return Counter(line["round"] for line in lines if line["kind"] == "charge" and line["run"].startswith(card))


def disturb(world: Helped, out: Path, kills: list[str], rng: random.Random, pause: tuple[float, float]) -> list[int]:
    """A run with kills, `pause` seconds apart: exit codes of its followers. Kills that were made leave `kills`."""
    world.ready()
    world.run(out)
    began, codes = time.monotonic(), []
    due = began + rng.uniform(*pause)
    while True:
        world.supervise()
        if world.ended("run"):
            codes.append(world.commands["run"].returncode)
            if codes[-1] in (0, EXHAUSTED):
                return codes
            if len(codes) > MOST_RESUMPTIONS:
                raise AssertionError(f"not finished after {len(codes)} tries; see {world.root}")
            time.sleep(1)
            world.ready()
            world.run(out)
        if kills and time.monotonic() > due and world.kill(kills[0], rng):
            kills.pop(0)
            due = time.monotonic() + rng.uniform(*pause)
        if time.monotonic() > began + LONGEST:
            raise AssertionError(f"not finished after {LONGEST:.0f} seconds; see {world.root}")
        time.sleep(0.05)


def disturbed(
    world: Helped, runs: list[list[str]], rng: random.Random, pause: tuple[float, float], say: Callable[[Any], None]
) -> list[dict[str, Any]]:
    """A run for each list of victims."""
    results = []
    for number, victims in enumerate(runs):
        out, left, began = world.root / f"run-{number}", list(victims), time.monotonic()
        codes = disturb(world, out, left, rng, pause)
        seconds, what = time.monotonic() - began, found(world.root / "seen", world.devices(), out, in_a_process)
        results.append(
            {
                "run": number,
                "killed": victims[: len(victims) - len(left)],
                "missed": left,
                "codes": codes,
                "seconds": round(seconds, 1),
                "charges": len(what.charges),
                "right": what.right,
                "wrong": what.wrong,
                "device_charges": [sum(each.values()) for each in what.device],
                "answered": [sum(each.values()) for each in what.answered],
                "faults": what.faults,
            }
        )
        say(results[-1])
    return results


def follow(state: str, config: str) -> int:
    """Follow a run as `fedrec server run` does, with the apps that note vectors and totals."""
    try:
        RunClient(State(Path(state)), json.loads(config), lambda _: None, APPS).follow()
    except RunFailed as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except FedrecError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=4, help="in a run")
    parser.add_argument("--pause", type=float, default=20.0, help="most seconds between kills")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--aggregator", choices=["peers", "helper"], default="helper")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON line for each run")
    parser.add_argument("--follow", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow:
        return follow(*options.follow)
    rng = random.Random(options.seed)
    names = [name for name in VICTIMS if name != "helper" or options.aggregator == "helper"]
    kills = [names[n % len(names)] for n in range(options.runs * options.kills)]
    rng.shuffle(kills)

    def say(result: dict[str, Any]) -> None:
        print(json.dumps(result), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")

    root = Path(tempfile.mkdtemp(prefix="fedrec-faults-"))
    runs = [kills[n : n + options.kills] for n in range(0, len(kills), options.kills)]
    with federation(options.nodes, root, options.aggregator, options.rounds) as world:
        results = disturbed(world, runs, rng, (2.0, options.pause), say)
    good = sum(not result["faults"] for result in results)
    made = sum(len(result["killed"]) for result in results)
    print(f"{good} of {len(results)} runs hold; {made} kills were made")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
