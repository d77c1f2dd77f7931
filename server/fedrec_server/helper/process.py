"""A running helper: its folder, its keys, and the door that it listens at, until a signal."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrec.audit.log.keys import public_key
from fedrec.errors import InputError
from fedrec.transport.processes import signals_interrupt
from fedrec.transport.state import State
from fedrec_server.helper.keys import PUBLIC, HelperKeys
from fedrec_server.helper.listening import HelperServer
from fedrec_server.helper.service import HelperService


def serve(
    folder: Path,
    host: str,
    port: int,
    hosts: Sequence[str],
    ledgers: Sequence[str],
    min_nodes: int,
    say: Callable[[str], None],
) -> None:
    """Run a helper until SIGTERM, SIGHUP or Ctrl-C; what was asked before is answered.

    Args:
        folder: its own, mode 0700, with its keys; made on first use.
        host: address to listen at.
        port: port to listen at; 0 for any free one.
        hosts: further names at which the server reaches it.
        ledgers: public keys of ledgers that it serves; empty for all.
        min_nodes: own least number of nodes in a sum.
        say: called with one line for each event.
    Raises: InputError where folder, keys or address cannot be used.
    """
    pinned = [public_key(each) for each in ledgers]
    state = State(folder)
    with state.claim(), signals_interrupt():
        keys, fresh = HelperKeys.made(state.path)
        keys.certify([*hosts, *([] if host in ("0.0.0.0", "::") else [host])])
        if fresh:
            say(f"made a helper's keys; hand {state.path / PUBLIC} to the server's operator and the nodes'")
        service = HelperService(state.path, keys, ledgers=pinned, min_nodes=min_nodes)
        _log_to_screen()
        with HelperServer((host, port), service, keys.tls.server_certificate, keys.tls.server_key) as server:
            shown = f"https://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
            state.tell({"address": shown, "key": service.key.text})
            say(f"ready at {shown}; key {service.key.text}")
            try:
                server.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                say("ending")


def listen_at(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`. Raises: InputError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise InputError(f"--listen {text}: must be HOST:PORT, e.g. 127.0.0.1:9443")
    return host.strip("[]"), int(port)


def _log_to_screen() -> None:
    ours = logging.getLogger("fedrec")
    ours.setLevel(logging.INFO)
    if not logging.getLogger().handlers and not ours.handlers:
        ours.addHandler(logging.StreamHandler())
