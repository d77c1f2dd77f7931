"""A device that is served, and requests to it as an attacker writes them: byte by byte."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec_client import EdgeClient
from fedrec_client.serve.device_service import FILE, device_service

from fedrec.http.entrance import Entrance
from fedrec.http.listening import Server, on_loopback, on_unix
from fedrec.http.service import Limits
from fedrec.http.token_file import token_in

ALLOWED = "http://app.example:3000"


@dataclass
class Served:
    """A running server. Attributes: port: 0 for a Unix socket; token; client: its device; path: of the Unix socket."""

    port: int
    token: str
    client: EdgeClient
    path: Path | None = None

    def connection(self, timeout: float = 20) -> socket.socket:
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        made.connect(str(self.path))
        return made

    def send(self, raw: bytes, timeout: float = 20) -> tuple[int, dict[str, str], bytes]:
        """Send bytes as they are; return status, headers and body of the answer."""
        with self.connection(timeout) as made:
            made.sendall(raw)
            answer = http.client.HTTPResponse(made, method=raw.split(b" ", 1)[0].decode("latin-1"))
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def ask(
        self,
        path: str,
        body: bytes | Any = b"{}",
        *,
        method: str = "POST",
        host: str | None = None,
        **headers: str | None,
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request with the usual headers, of which None leaves one out; return status, headers and JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        host = host or (f"127.0.0.1:{self.port}" if self.path is None else "localhost")
        found: dict[str, str | None] = {
            "Host": host,
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        found |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in found.items() if value is not None),
        ]
        status, got, answer = self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content)
        return status, got, json.loads(answer) if answer and got.get("content-type") == "application/json" else answer


@contextmanager
def served(
    client: EdgeClient, *, unix: Path | None = None, limits: Limits | None = None, **more: Any
) -> Iterator[Served]:
    """Serve an open device in a thread."""
    token, up = token_in(client.path / FILE), threading.Event()
    with on_loopback("127.0.0.1", 0) if unix is None else on_unix(unix) as listening:
        port = None if unix else listening.getsockname()[1]
        service = device_service(client, Entrance.of(port, (ALLOWED,), token), limits=limits, **more)
        server = Server(service, listening, up.set)
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        try:
            assert up.wait(20)
            yield Served(port or 0, token, client, unix)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
