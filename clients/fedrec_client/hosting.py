"""A running node: Flower's SuperNode and the process that answers for its users.

The node polls the server, which never connects to it. Its own port is on the loopback, for those two processes.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedrec.errors import InputError
from fedrec.transport import doorbell, warm
from fedrec.transport.environment import safe_environment
from fedrec.transport.executor import executor_command
from fedrec.transport.preflight import Unreachable, preflight
from fedrec.transport.processes import Child, Children, children, free_port
from fedrec.transport.refusals import diagnose
from fedrec.transport.state import State
from fedrec_client.node_config import is_device

WAITS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before the node is started again; the last one over and over."""

WITH_TORCH = "torch,fedrec_client.sources,fedrec_client.torch_run"
"""What a node of a log or a shard needs; a node of devices needs none of it."""

LINES_SECONDS = 0.3
"""From the first line of an error to its last."""


@dataclass(frozen=True)
class Server:
    """Where the server is (HOST:PORT), and what this node trusts and proves itself with."""

    address: str
    ca: Path
    key: Path


@dataclass(frozen=True)
class Users:
    """Where the users are (the node's configuration, see `fedrec_client.sources`), and the ClientApp that answers for
    them, in a process that is kept, or (stock) in a new one for every message."""

    config: Mapping[str, str | int | bool]
    app: str
    stock: bool = False


def host(
    server: Server,
    users: Users,
    state: State,
    *,
    port: int | None = None,
    patience: float = 120.0,
    say: Callable[[str], None] = print,
) -> None:
    """Run a node until a signal (KeyboardInterrupt).

    port: port of the node's own API on the loopback; any free one if left out.
    patience: seconds without a welcome of the server after which to give up. Each welcome restarts them.
    say: called with one line for each event.
    Raises: InputError with the reason why the server, or this node, cannot be used.
    """
    with state.claim(), children(say) as made:
        tried, since = 0, time.monotonic()
        while True:
            problem, welcome = attempt(server, users, state, port, made, say)
            made.end()
            if welcome is not None:
                tried, since = 0, time.monotonic()
            if time.monotonic() - since > patience:
                raise InputError(problem)
            wait = WAITS[min(tried, len(WAITS) - 1)]
            tried += 1
            say(f"{problem}; trying again in {wait:.0f} s")
            time.sleep(wait)


def attempt(
    server: Server,
    users: Users,
    state: State,
    port: int | None,
    made: Children,
    say: Callable[[str], None],
    over: Callable[[], bool] = lambda: False,
) -> tuple[str, float | None]:
    """Run a node once.

    Args:
        server, users, state, port, say: see `host`.
        made: takes the node's processes, which the caller ends.
        over: asked several times a second whether to stop.

    Returns: why the node ended, where that may pass, and "" where it is over; and when it was welcomed.
    Raises: InputError where it ended for good.
    """
    try:
        preflight(server.address, server.ca, server.key)
    except Unreachable as error:
        return str(error), None
    own = f"127.0.0.1:{port or free_port()}"
    node, answering = _start(server, users, state, own, made)
    welcome = None
    while True:
        ended, news = node.code is not None, node.news()
        if welcome is None and "SuperNode ID:" in news:
            welcome = time.monotonic()
            state.tell({"server": server.address})
            say(f"connected to {server.address}")
        if ended or "ERROR" in news:
            time.sleep(LINES_SECONDS)
            found = diagnose(node.text, node.code)
            if found is not None:
                if not found.may_pass:
                    raise InputError(found.line)
                return found.line, welcome
        if answering.code is not None:
            return f"the process of the users ended with code {answering.code}; see {answering.log}", welcome
        if over():
            return "", welcome
        time.sleep(0.2)


def _start(server: Server, users: Users, state: State, own: str, made: Children) -> tuple[Child, Child]:
    secret = state.secret("executor-secret")
    command = [sys.executable, "-m", "fedrec.transport.supernode", "--superlink", server.address]
    command += ["--root-certificates", str(server.ca), "--auth-supernode-private-key", str(server.key)]
    command += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    command += ["--node-config", " ".join(f"{name}={_toml(value)}" for name, value in users.config.items())]
    command += ["--host", own.rpartition(":")[0], "--port", own.rpartition(":")[2]]
    bell = {} if users.stock else {doorbell.VARIABLE: str(state.path / "doorbell")}
    heavy = "" if is_device(users.config) else WITH_TORCH
    environment = safe_environment(state.path, **bell, **{warm.PRELOAD: heavy})
    node = made.start("node", command, state.log("node"), environment)
    command = executor_command(users.app, own, None, secret, stock=users.stock)
    return node, made.start("users", command, state.log("users"), environment)


def _toml(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if '"' in value or "'" in value or "\n" in value or "\\" in value:
        raise InputError(f"{value!r}: Flower's node configuration takes no quotes or backslashes; choose another path")
    return f'"{value}"'
