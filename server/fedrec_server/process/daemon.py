"""The daemon: a server that keeps running after the command that started it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedrec.errors import InputError
from fedrec.transport.state import State
from fedrec_server.helper.named import NamedHelper
from fedrec_server.process.link import START_SECONDS


def start_daemon(
    state: State,
    keys: Path,
    host: str,
    port: int,
    app: str,
    *,
    stock: bool,
    plugins: Iterable[str] = (),
    helper: NamedHelper | None = None,
) -> dict[str, Any]:
    """Start `fedrec server start` as a daemon, and wait until it is ready.

    Args:
        state: the server's own folder.
        keys: the folder of keys.
        host: address to listen at.
        port: port to listen at.
        app: the ServerApp ("module:name").
        stock: run tasks as Flower does.
        plugins: names of installed plug-ins that runs may use.
        helper: keeps the masks of secure sums; None for none.
    Returns: the facts of the running server: `address`, `pid`, `ca`, `nodes`.
    Raises: InputError when the server does not start.
    """
    state.make()
    command = [sys.executable, "-m", "fedrec.cli", "server", "start", "--keys", str(keys), "--state", str(state.path)]
    command += ["--host", host, "--port", str(port), "--app", app] + (["--stock"] if stock else [])
    command += [part for name in plugins for part in ("--plugin", name)]
    command += [] if helper is None else helper.options
    log = state.log("server")
    begin = log.stat().st_size if log.exists() else 0
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    os.close(output)
    end = time.monotonic() + 2 * START_SECONDS
    while True:
        facts = state.running()
        if facts is not None and facts["pid"] == process.pid:
            return facts
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            lines = log.read_bytes()[begin:].decode("utf-8", "replace").strip().splitlines()
            why = lines[-1].removeprefix("error: ") if lines else f"ended with code {process.returncode}"
            raise InputError(f"the server did not start: {why}")
        time.sleep(0.1)
