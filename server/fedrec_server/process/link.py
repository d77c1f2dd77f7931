"""A running server: Flower's SuperLink behind the gate, and what runs our ServerApp, for as long as asked.

The link keeps its state in memory: nodes are let in anew from the folder of keys whenever it starts, runs go on from
their own checkpoints, and no database with run configurations and messages lies on a disk.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from fedrec.errors import InputError
from fedrec.transport.environment import safe_environment
from fedrec.transport.executor import executor_command
from fedrec.transport.preflight import preflight
from fedrec.transport.processes import Children, children
from fedrec.transport.state import State
from fedrec_server.pki import node_limits
from fedrec_server.pki.admission import Admission
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.gate import SECRET_VARIABLE

START_SECONDS = 60.0
"""How long the link may take until it listens."""

NOTICE_SECONDS = 1.0
"""How soon a key that comes into the folder, or leaves it, is noticed."""

EXECUTOR_SECRET, CONTROL_SECRET = "executor-secret", "control-secret"


def serve(keys: Path, state: State, host: str, port: int, app: str, *, stock: bool, say: Callable[[str], None]) -> None:
    """Start a server and stay until a signal comes (KeyboardInterrupt).

    app: the ServerApp ("module:name") that does the runs, whatever they name; stock: Flower starts what they name
    instead. say: is told what happens, a line each.
    Raises: InputError where keys or state cannot be used; ProcessEnded when one of the processes ended by itself.
    """
    keyring = Keyring(keys.absolute())
    with state.claim(), children(say) as made:
        for line in keyring.check(host):
            say(f"warning: {line}")
        control = state.secret(CONTROL_SECRET)
        local = f"{_local(host)}:{port}"
        _start_link(made, keyring, state, host, port, control)
        _until_it_listens(made, local, keyring)
        limits = state.path / "node-limits.json"
        door = Door(local, keyring, control, limits)
        door.keep()
        made.start(
            "app",
            executor_command(app, local, keyring.ca_certificate, state.secret(EXECUTOR_SECRET), stock=stock),
            state.log("app"),
            safe_environment(state.path, **{node_limits.VARIABLE: str(limits)}),
        )
        state.tell({"address": local, "ca": str(keyring.ca_certificate), "nodes": len(keyring.nodes)})
        say(f"ready at {host}:{port}; {len(keyring.nodes)} nodes may come; logs in {state.path}")
        while True:
            made.check()
            time.sleep(NOTICE_SECONDS)
            for line in door.news():
                say(line)


class Door:
    """Who may come to the link at `address`, and claim what: the nodes in the folder of keys.

    secret: the file with the control's. limits: the file in which runs find what nodes may claim.
    """

    def __init__(self, address: str, keyring: Keyring, secret: Path, limits: Path) -> None:
        self._address, self._keyring, self._secret, self._limits = address, keyring, secret, limits
        self._seen: object = None
        self._warning = ""

    def keep(self) -> list[str]:
        """Let in the nodes that are in the folder now and no others. Raises: InputError, and nothing has changed."""
        seen, keys = self._keyring.stamp, self._keyring.public_keys()
        with Admission.at(self._address, self._keyring.ca_certificate, self._secret.read_text()) as admission:
            lines = admission.keep(keys)
            node_limits.publish(self._keyring, keys, admission.nodes(), self._limits)
        self._seen = seen
        return lines

    def news(self) -> list[str]:
        """The same, if the folder has changed. What cannot be used is tried again, and told once."""
        try:
            lines = [] if self._keyring.stamp == self._seen else self.keep()
            self._warning = ""
        except (InputError, OSError) as error:
            before, self._warning = self._warning, f"warning: nodes stay as they are: {error}"
            lines = [] if self._warning == before else [self._warning]
        return lines


def _start_link(made: Children, keyring: Keyring, state: State, host: str, port: int, control: Path) -> None:
    command = [sys.executable, "-m", "fedrec_server.process.gate"]
    command += ["--ssl-certfile", str(keyring.server_certificate), "--ssl-keyfile", str(keyring.server_key)]
    command += ["--ssl-ca-certfile", str(keyring.ca_certificate), "--enable-supernode-auth"]
    command += ["--isolation", "process", "--superexec-auth-secret-file", str(state.secret(EXECUTOR_SECRET))]
    command += ["--database", ":flwr-in-memory:", "--host", host, "--port", str(port)]
    environment = safe_environment(state.path, **{SECRET_VARIABLE: str(control)})
    made.start("link", command, state.log("link"), environment)


def _until_it_listens(made: Children, address: str, keyring: Keyring) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        made.check()
        try:
            preflight(address, keyring.ca_certificate)
            return
        except InputError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def _local(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host.strip("[]"), f"[{host}]" if ":" in host else host)
