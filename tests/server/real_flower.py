"""Flower's own SuperLink, and SuperNodes as fedrec starts them, as processes on the loopback that end by themselves.

Each is forked from a process that has imported Flower, which takes longer than all that a test does with it.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from fedrec_server.pki.keyring import Keyring

from fedrec.transport.processes import free_port

LIFE = 90
"""Seconds after which a process ends whatever becomes of the test."""

LINK = "flwr.superlink.cli.flower_superlink:flower_superlink"
NODE = "fedrec.transport.supernode:main"
CONTROL = "flwr.cli.app:app"

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([LINK.partition(":")[0], "flwr.supernode.cli.flower_supernode", CONTROL.partition(":")[0]])


def until(holds: Callable[[], bool], seconds: float = 40) -> bool:
    """Return whether `holds` became true in that time: a limit for hanging processes, not a measure of speed."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def become(command: list[str], home: Path, log: Path, first: str) -> None:
    """Replace a forked process by `command`, with its output in `log`."""
    signal.alarm(LIFE)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {"FLWR_HOME": str(home), "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    importlib.import_module("flwr.supercore.telemetry").FLWR_TELEMETRY_ENABLED = "0"  # read when it was imported
    exec(first, {})
    module, _, function = command[0].partition(":")
    sys.argv = command
    sys.exit(getattr(importlib.import_module(module), function)())


@dataclass
class Process:
    """One of Flower's commands, its output in a file."""

    command: list[str]
    home: Path
    log: Path
    first: str = ""
    running: BaseProcess = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        self.running = FORKS.Process(target=become, args=(self.command, self.home, self.log, self.first))
        self.running.start()

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def lives(self) -> bool:
        return self.running.is_alive()

    def ended(self) -> int | None:
        """Its exit code, once it has ended by itself."""
        self.running.join(60)
        return self.running.exitcode

    def stop(self) -> None:
        self.running.kill()
        self.running.join(30)


class RealFlower:
    """Starts processes below `folder`, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self._secret = folder / "secret"
        self._secret.write_text("0123456789abcdef" * 4)
        self._secret.chmod(0o600)

    def start(self, name: str, command: list[str], first: str = "") -> Process:
        place = self.folder / f"{len(self.processes)}-{name}"
        self.processes.append(Process(command, place, place.with_suffix(".log"), first))
        return self.processes[-1]

    def link(self, keyring: Keyring | None, port: int) -> Process:
        """A SuperLink with TLS and node authentication, once it listens; without keys, one that is open to all."""
        if keyring is None:
            safety = ["--insecure"]
        else:
            safety = [f"--ssl-certfile={keyring.server_certificate}", f"--ssl-keyfile={keyring.server_key}"]
            safety += [f"--ssl-ca-certfile={keyring.ca_certificate}", "--enable-supernode-auth"]
        safety += ["--isolation=process", f"--superexec-auth-secret-file={self._secret}"]
        link = self.start("link", [LINK, *safety, "--host=127.0.0.1", f"--port={port}"])
        assert until(lambda: "Uvicorn running" in link.text or not link.lives), link.text
        assert link.lives, link.text
        return link

    def node(self, port: int, *options: str, first: str = "") -> Process:
        """A SuperNode for the link at `port`. first: Python that runs before it, to change what it believes."""
        own = [f"--superlink=127.0.0.1:{port}", "--isolation=process", f"--port={free_port()}"]
        return self.start("node", [NODE, *own, *options], first)

    def register(self, keyring: Keyring, port: int, name: str) -> None:
        """Let in one node, by Flower's command."""
        lines = ["[superlink]", 'default = "link"', "[superlink.link]", f'address = "127.0.0.1:{port}"']
        lines += [f'root-certificates = "{keyring.ca_certificate}"']
        home = self.folder / "control"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text("\n".join(lines) + "\n")
        command = [CONTROL, "supernode", "register", str(keyring.nodes[name][1]), "link"]
        done = Process(command, home, self.folder / f"register-{name}.log")
        assert done.ended() == 0, done.text

    @classmethod
    @contextlib.contextmanager
    def below(cls, folder: Path) -> Iterator["RealFlower"]:
        flower = cls(folder)
        try:
            yield flower
        finally:
            for process in flower.processes:
                process.stop()


def plaintext(port: int) -> bytes:
    """Return the answer of a server at `port` to a request without TLS."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v1/plaintext HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return connection.recv(4096)
    return b""
