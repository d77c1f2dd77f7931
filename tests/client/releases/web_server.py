"""A web server on loopback for tests: static files with or without ranges, and hooks that play the attacker."""

import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Hook = Callable[["Handler"], bool]
"""Answers a request and returns True, or leaves it to the files."""


class Handler(BaseHTTPRequestHandler):
    """Serves `server.root`."""

    protocol_version = "HTTP/1.1"
    server: "Web"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        try:
            if any(hook(self) for hook in list(self.server.hooks)):
                return
            self.from_files()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def from_files(self) -> None:
        place = self.server.root / self.path.lstrip("/")
        if not place.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, tag = place.read_bytes(), f'"{place.name}-{self.server.version}"'
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(asked.group(1))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.ranges:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.send(content[start:])

    def send(self, content: bytes) -> None:
        """Send the bytes of a body; those of parts count against `server.breaks_after`."""
        if not self.path.startswith("/parts/"):
            self.wfile.write(content)
            return
        most = len(content) if self.server.breaks_after is None else self.server.breaks_after
        self.wfile.write(content[:most])
        self.server.sent += len(content[:most])
        if self.server.breaks_after is not None:
            self.server.breaks_after = max(0, most - len(content)) if most >= len(content) else None
            self.close_connection = most < len(content)

    def log_message(self, *args: Any, **named: Any) -> None:
        return


class Web(ThreadingHTTPServer):
    """The server. Attributes: asked: path and headers of each request; sent: bytes of parts;
    breaks_after: bytes of parts until the connection breaks, once; None for never."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.ranges, self.version = root, True, 1
        self.hooks: list[Hook] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent, self.breaks_after, self.connections = 0, None, 0

    breaks_after: int | None

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def parts_asked(self) -> list[dict[str, str]]:
        return [headers for path, headers in self.asked if path.startswith("/parts/")]


def answer(handler: Handler, content: bytes, status: int = 200, **headers: str) -> bool:
    """Send an answer of one's own."""
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(content))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)
    return True


def endless(handler: Handler) -> bool:
    """Send bytes until the other side leaves."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(b"{" * (1 << 16))
