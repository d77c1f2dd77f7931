"""Sockets, on the loopback unless another address is named, and uvicorn on one of them without logs of requests."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from h11 import IDLE
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedrec.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Values of `--host`."""
IDLE_SECONDS = 10.0
"""Seconds in which the head of a request must arrive, also of the next one on a connection."""


@contextlib.contextmanager
def on_loopback(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on a port of the loopback.

    Args:
        host: 127.0.0.1, ::1 or localhost.
        port: 0 for any free one.

    Raises:
        InputError: for another host, or a port that is in use.
    """
    if host not in LOOPBACK:
        raise InputError(f"--host {host}: only programs on this machine may ask; use 127.0.0.1, ::1 or --unix FILE")
    with on_address("127.0.0.1" if host == "localhost" else host, port) as made:
        yield made


@contextlib.contextmanager
def on_address(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on a port of any address of this machine.

    Args:
        host: an IPv4 or IPv6 address.
        port: 0 for any free one.

    Raises:
        InputError: for what is no address of this machine, or a port that is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
            made.listen(128)
        except socket.gaierror:
            raise InputError(f"--host {host}: no address; write one of this machine, e.g. 192.168.0.7") from None
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no port"
            raise InputError(f"--port {port}: cannot be used ({reason}); choose another, or 0 for a free one") from None
        yield made


@contextlib.contextmanager
def on_unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket, mode 0600, which is removed at the end.

    Args:
        path: of the socket; one that a program left is replaced.

    Raises:
        InputError: where a program listens on it, another file is there, or it cannot be made.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            _remove_dead(path)
            mask = os.umask(0o177)
            try:
                made.bind(str(path))
            finally:
                os.umask(mask)
            made.listen(128)
            own = path.lstat().st_ino
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"--unix {path}: cannot be used ({reason}); choose another path") from None
        try:
            yield made
        finally:
            with contextlib.suppress(OSError):
                if path.lstat().st_ino == own:
                    path.unlink()


def _remove_dead(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise InputError(f"--unix {path}: another file is there; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise InputError(f"--unix {path}: a program listens on it; choose another path")


class _Patient(H11Protocol):
    """HTTP/1.1 that ends a connection on which the head of a request does not arrive in time."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Count the seconds while no request has begun; they are not counted anew at each byte."""
        if self.conn.their_state is not IDLE:
            self._stop()
        elif self._limit is None:
            self._limit = self.loop.call_later(IDLE_SECONDS, self._end)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _end(self) -> None:
        self._limit = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A server on an open socket.

    Args:
        application: of ASGI.
        listening: the socket.
        ready: called once requests are answered.
        connections: most at a time.
        certificate: PEM file of a TLS certificate and its chain; None for plain HTTP.
        key: PEM file of its private key.
    """

    def __init__(
        self,
        application: Any,
        listening: socket.socket,
        ready: Callable[[], None] = lambda: None,
        *,
        connections: int = 256,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):  # no address, path or text of an error
            logging.getLogger(name).disabled = True
        config = uvicorn.Config(
            application,
            http=_Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=16 << 10,
            limit_concurrency=connections,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        super().__init__(config)
        self._listening, self._ready = listening, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report that it is ready."""
        await super().startup(sockets)
        self._ready()

    def serve_until_stopped(self) -> None:
        """Answer requests until `should_exit`, Ctrl-C or SIGTERM."""
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:  # uvicorn raises a signal again at its end, which then finds this server stopped
            self.run(sockets=[self._listening])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
