"""The command of the process that runs an app's tasks for a SuperLink or a SuperNode."""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from fedrec.errors import InputError


class Apps(NamedTuple):
    """The Flower apps of server and nodes, as "module:name"."""

    server: str
    client: str


OURS = Apps("fedrec_server.app:app", "fedrec_client.app:app")


def executor_command(app: str, address: str, ca: Path | None, secret: Path, *, stock: bool) -> list[str]:
    """Return the command of a process that takes tasks at `address` and runs `app`.

    Args:
        app: the app as "module:name".
        address: HOST:PORT.
        ca: certificate that the server's certificate is checked against; None for a plain connection on the loopback.
        secret: file of the secret that a process needs to receive tasks.
        stock: use Flower's own `flower-superexec`, with a new interpreter for every message.

    Raises:
        InputError: with `stock`, when `flower-superexec` is not installed.
    """
    where = ["--runtime-api-address", address, "--superexec-auth-secret-file", str(secret)]
    where += ["--insecure"] if ca is None else ["--root-certificates", str(ca)]
    if not stock:
        return [sys.executable, "-m", "fedrec.transport.warm", app, *where]
    command = shutil.which(
        "flower-superexec", path=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    )
    if command is None:
        raise InputError("--stock: Flower's flower-superexec is not on the path; `pip install 'fedrec[deploy]'`")
    return [command, *where]
