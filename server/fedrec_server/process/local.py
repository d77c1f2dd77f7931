"""A whole federation as processes of this machine: keys, a server, nodes with shards of a dataset."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fedrec.errors import FedrecError
from fedrec.transport.environment import safe_environment
from fedrec.transport.executor import OURS, Apps
from fedrec.transport.processes import Children, children, free_port
from fedrec.transport.state import State
from fedrec_server.flower.nodes import MOST_USERS
from fedrec_server.helper.keys import PUBLIC
from fedrec_server.helper.named import NamedHelper
from fedrec_server.pki import node_limits
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.link import START_SECONDS
from fedrec_server.process.status import server_status


@contextlib.contextmanager
def federation(
    nodes: int,
    folder: Path | None,
    data_dir: Path | None,
    *,
    stock: bool,
    say: Callable[[str], None],
    dataset: str | None = None,
    plugins: Iterable[str] = (),
    apps: Apps = OURS,
    helper: bool = False,
) -> Iterator[State]:
    """Start a server and its nodes on this machine, and wait until all nodes are online.

    Args:
        nodes: number of nodes.
        folder: folder that keeps keys and logs; None for a temporary one.
        data_dir: folder of the datasets.
        stock: run tasks as Flower does.
        say: called with one line for each event.
        dataset: the dataset that the nodes serve; generated ones if left out.
        plugins: names of installed plug-ins that server and nodes allow.
        apps: the Flower apps; others than ours are for benchmarks.
        helper: start a helper, too, which the nodes pin.
    Returns: the state folder of the server.
    Raises: FedrecError when a process ends too early.
    """
    kept = folder is not None
    allowed = [part for name in plugins for part in ("--plugin", name)]
    root = Path(tempfile.mkdtemp(prefix="fedrec-")) if folder is None else folder.absolute()
    try:
        keyring = _keys(root / "keys", nodes)
        state, port = State(root / "server"), free_port()
        with children(say) as made:
            options = ["--keys", str(keyring.path), "--state", str(state.path), "--port", str(port)]
            options += [*(["--app", apps.server] if apps != OURS else []), *allowed]
            policy: list[str] = []
            if helper:
                second, policy = _helper(made, root)
                options += second
                say("the helper is on this machine, too: that shows how it works, and protects nobody")
            _start(made, "server", ["server", "start", *options, *(["--stock"] if stock else [])], root)
            _until(lambda: state.running() is not None, made, "the server did not start")
            for n, name in enumerate(_names(nodes)):
                key = keyring.nodes[name][0]
                options = ["--server", f"127.0.0.1:{port}", "--ca", str(keyring.ca_certificate), "--key", str(key)]
                options += ["--shard", f"{n}/{nodes}", "--state", str(root / name)]
                options += [] if dataset is None else ["--dataset", dataset]
                options += [*(["--app", apps.client] if apps != OURS else []), *allowed, *policy]
                options += [] if data_dir is None else ["--data-dir", str(data_dir.absolute())]
                _start(made, name, ["client", "start", *options, *(["--stock"] if stock else [])], root)
            say(f"waiting for {nodes} nodes")
            _until(lambda: _online(state) >= nodes, made, f"fewer than {nodes} nodes came")
            yield state
    except FedrecError as error:
        if error.exit_code not in (3, 5):  # the line of an orderly stop explains it
            kept = True
            say(f"logs are kept in {root}")
        raise
    finally:
        if not kept:
            shutil.rmtree(root, ignore_errors=True)


def _helper(made: Children, root: Path) -> tuple[list[str], list[str]]:
    """Start a helper. Returns: the server's options for it, and those of the nodes, whose policy pins it."""
    place = root / "helper"
    _start(made, "helper", ["helper", "start", str(place), "--listen", f"127.0.0.1:{free_port()}"], root)
    _until(lambda: State(place).running() is not None, made, "the helper did not start")
    facts = State(place).running() or {}
    policy = root / "policy.toml"
    policy.write_text(f'[server]\nhelpers = ["{facts["key"]}"]\n', encoding="utf-8")
    return NamedHelper(facts["address"], place / PUBLIC).options, ["--policy", str(policy)]


def _keys(folder: Path, nodes: int) -> Keyring:
    from datetime import UTC, datetime

    from fedrec_server.pki import key_making

    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _limited(key_making.make(folder, [], _names(nodes), datetime.now(UTC), 30), nodes)
    keyring = Keyring(folder)
    for name in _names(nodes):
        if name not in keyring.nodes:
            key_making.add_node(keyring, name)
    return _limited(keyring, nodes)


def _limited(keyring: Keyring, nodes: int) -> Keyring:
    """Return the same keys, each limited to its shard, of any size."""
    for n, name in enumerate(_names(nodes)):
        node_limits.put(keyring, name, MOST_USERS, f"{n}/{nodes}")
    return keyring


def _names(nodes: int) -> list[str]:
    return [f"node-{n:02d}" for n in range(nodes)]


def _start(made: Children, name: str, arguments: list[str], root: Path) -> None:
    command = [sys.executable, "-m", "fedrec.cli", *arguments]
    made.start(name, command, root / f"{name}.log", safe_environment(root))


def _until(holds: Callable[[], bool], made: Children, otherwise: str) -> None:
    end = time.monotonic() + 3 * START_SECONDS
    while not holds():
        made.check()
        if time.monotonic() > end:
            raise FedrecError(f"{otherwise} within {3 * START_SECONDS:.0f} seconds")
        time.sleep(0.2)


def _online(state: State) -> int:
    return sum(node["status"] == "online" for node in server_status(state)["nodes"])
