"""A running server: Flower's SuperLink behind the gate, and the executor of our ServerApp.

The link keeps its state in memory, so that no database of run configurations and messages is on a disk. When it starts
again, nodes are admitted anew from the folder of keys, and runs continue from their own checkpoints.
"""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fedrec.errors import InputError
from fedrec.plugins import check_plugins
from fedrec.transport.environment import safe_environment
from fedrec.transport.executor import executor_command
from fedrec.transport.preflight import preflight
from fedrec.transport.processes import Children, children
from fedrec.transport.state import State
from fedrec_server import allowed_plugins
from fedrec_server.helper.named import NamedHelper, environment
from fedrec_server.pki import node_limits
from fedrec_server.pki.admission import Admission
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process.gate import SECRET_VARIABLE

START_SECONDS = 60.0
"""Seconds that the link may take until it listens."""

NOTICE_SECONDS = 1.0
"""Seconds between looks for a new or removed key in the folder."""

EXECUTOR_SECRET, CONTROL_SECRET = "executor-secret", "control-secret"


def serve(
    keys: Path,
    state: State,
    host: str,
    port: int,
    app: str,
    *,
    stock: bool,
    say: Callable[[str], None],
    plugins: Iterable[str] = (),
    helper: NamedHelper | None = None,
) -> None:
    """Start a server and run it until a signal (KeyboardInterrupt).

    Args:
        keys: the folder of keys.
        state: the server's own folder.
        host: address to listen at.
        port: port to listen at.
        app: the ServerApp ("module:name") of every run, whatever the run names.
        stock: let Flower start the app that a run names instead.
        say: called with one line for each event.
        plugins: names of installed plug-ins that runs may use.
        helper: keeps the masks of secure sums; None for none.
    Raises:
        InputError: a plug-in is not installed; keys or state cannot be used.
        ProcessEnded: one of the processes ended by itself.
    """
    keyring, allowed = Keyring(keys.absolute()), sorted(check_plugins(plugins))
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
            safe_environment(
                state.path,
                **{node_limits.VARIABLE: str(limits), allowed_plugins.VARIABLE: ",".join(allowed)},
                **environment(helper),
            ),
        )
        state.tell(
            {"address": local, "ca": str(keyring.ca_certificate), "nodes": len(keyring.nodes), "plugins": allowed}
        )
        say(f"ready at {host}:{port}; {len(keyring.nodes)} nodes may connect; logs in {state.path}")
        while True:
            made.check()
            time.sleep(NOTICE_SECONDS)
            for line in door.news():
                say(line)


class Door:
    """The admission of nodes to the link at `address`: those in the folder of keys.

    Args:
        address: HOST:PORT of the link.
        keyring: the folder of keys.
        secret: file with the secret of the Control API.
        limits: file with the limits of nodes, for runs.
    """

    def __init__(self, address: str, keyring: Keyring, secret: Path, limits: Path) -> None:
        self._address, self._keyring, self._secret, self._limits = address, keyring, secret, limits
        self._seen: object = None
        self._warning = ""

    def keep(self) -> list[str]:
        """Admit the nodes that are in the folder now, and no others. Raises: InputError, with nothing changed."""
        seen, keys = self._keyring.stamp, self._keyring.public_keys()
        with Admission.at(self._address, self._keyring.ca_certificate, self._secret.read_text()) as admission:
            lines = admission.keep(keys)
            node_limits.publish(self._keyring, keys, admission.nodes(), self._limits)
        self._seen = seen
        return lines

    def news(self) -> list[str]:
        """Do the same if the folder has changed. Keys that cannot be used are tried again, with one warning."""
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
    """Return the host at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host.strip("[]"), f"[{host}]" if ":" in host else host)
