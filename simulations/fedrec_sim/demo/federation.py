"""The demo's federation: a server and hubs of other people as processes of this machine, over encrypted connections."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedrec_server.flower.nodes import MOST_USERS
from fedrec_server.pki import key_making, node_limits
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.run_client import RunClient
from fedrec_server.process.status import server_status

from fedrec.errors import FedrecError
from fedrec.transport.environment import safe_environment
from fedrec.transport.processes import Children, children, free_port
from fedrec.transport.state import State
from fedrec_sim.demo.world import World

PERSON = "person"
START_SECONDS = 120.0


class Federation:
    """A running server with its hubs. Make one by `federation`.

    Attributes:
        keyring: the keys; the one of `PERSON` is for the device of the page.
        address: of the server, HOST:PORT.
        hubs: number of hubs.
    """

    def __init__(self, made: Children, keyring: Keyring, state: State, address: str, world: World) -> None:
        self._made, self.keyring, self._state, self.address, self._world = made, keyring, state, address, world
        self.hubs = len(world.hubs)

    def online(self) -> int:
        """Return the number of nodes that are online."""
        self._made.check()
        return sum(node["status"] == "online" for node in server_status(self._state)["nodes"])

    def wait(self, nodes: int, check: Callable[[], None] = lambda: None) -> None:
        """Wait until so many nodes are online.

        Args:
            nodes: how many.
            check: raises where it is of no use to wait longer.
        Raises: FedrecError after `START_SECONDS`, or where a process ended.
        """

        def enough() -> bool:
            check()
            return self.online() >= nodes

        _until(enough, f"fewer than {nodes} devices and hubs are online")

    def run(self, out: Path, settings: Sequence[str], on_event: Callable[[dict[str, Any]], None]) -> Path:
        """Run a scenario over all nodes.

        Args:
            out: the run's folder.
            settings: `key=value` texts.
            on_event: called with each event of the run.

        Returns: the run's folder.
        Raises: RunFailed.
        """
        given = ["data.name=nodes", f"data.catalogue={self._world.catalogue}", *settings]
        config = {"scenario": "quickstart", "set": "\n".join(given), "out": str(out), "resume": False}
        config |= {"data-dir": "", "folder": str(out.parent)}
        return Path(RunClient(self._state, config, on_event).follow())


@contextlib.contextmanager
def federation(folder: Path, world: World) -> Iterator[Federation]:
    """Start a server and a node for each hub; all end with the block.

    Use it in a thread that lives as long: a child process ends with the thread that started it.

    Args:
        folder: for keys and logs.
        world: the files.
    """
    names = [f"hub-{n}" for n in range(len(world.hubs))]
    keyring = key_making.make(folder / "keys", [], [*names, PERSON], datetime.now(UTC), 30)
    for name in names:
        node_limits.put(keyring, name, MOST_USERS)
    node_limits.put(keyring, PERSON, 1)
    state, port = State(folder / "server"), free_port()
    with children(at_once=True) as made:
        options = ["--keys", str(keyring.path), "--state", str(state.path), "--port", str(port)]
        _start(made, folder, "server", ["server", "start", *options])

        def started() -> bool:
            made.check()
            return state.running() is not None

        _until(started, "the server did not start")
        found = Federation(made, keyring, state, f"127.0.0.1:{port}", world)
        for name, log in zip(names, world.hubs, strict=True):
            options = ["--server", found.address, "--ca", str(keyring.ca_certificate), "--state", str(folder / name)]
            options += ["--key", str(keyring.nodes[name][0]), "--data", str(log), "--catalogue", str(world.catalogue)]
            _start(made, folder, name, ["client", "start", *options])
        found.wait(len(names))
        yield found


def first_model(folder: Path, world: World, settings: Sequence[str]) -> Path:
    """Train a model of the other people alone, as a simulation in a process of its own; return the run's folder.

    Raises: FedrecError where it fails.
    """
    changes = [
        "data.name=file",
        f"data.path={world.log}",
        f"data.catalogue={world.catalogue}",
        "evaluation.every=0",
        *settings,
    ]
    command = ["simulate", "quickstart", *(part for each in changes for part in ("--set", each))]
    with children() as made:
        _start(made, folder, "first-model", [*command, "--out", str(folder / "first-model")])
        process = made.all[0]
        process.process.wait()
        if process.code:
            raise FedrecError(f"the first model failed ({process.last_lines(1)}); see {process.log}")
    return folder / "first-model"


def _start(made: Children, folder: Path, name: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "fedrec.cli", *arguments]
    made.start(name, command, folder / f"{name}.log", safe_environment(folder))


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise FedrecError(f"{otherwise} after {START_SECONDS:.0f} seconds")
        time.sleep(0.2)
