"""The helper over HTTPS: one request a connection, bounded in size, number and time.

A request that cannot be answered gets a status and one line. Nothing of a request is logged but its kind and the line.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from fedrec.errors import FedrecError, InputError
from fedrec.secagg import Malformed
from fedrec_server.helper.messages import (
    COSIGN,
    HEALTH,
    MOST_REQUEST,
    OPEN,
    CosignRequest,
    HelperAnswer,
    RoundRequest,
    framed,
)
from fedrec_server.helper.service import HeadUnknown, HelperService

log = logging.getLogger("fedrec.helper")

MOST_CONNECTIONS = 16
"""At once, each with a request of at most `MOST_REQUEST` bytes."""
QUIET_SECONDS = 20.0
"""Seconds that a connection may send nothing."""
WHOLE_SECONDS = 300.0
"""Seconds that a connection may last."""


class HelperServer(ThreadingMixIn, TCPServer):
    """Listens until `shutdown`. Open requests are answered before `server_close` returns.

    Args:
        address: host and port; port 0 for any free one.
        service: answers.
        certificate: PEM file of its TLS certificate.
        key: PEM file of the certificate's key.

    Raises: InputError where the address cannot be listened at.
    """

    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], service: HelperService, certificate: Path, key: Path) -> None:
        self.service = service
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.load_cert_chain(certificate, key)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise InputError(
                f"--listen {address[0]}:{address[1]}: cannot be listened at ({error.strerror}); choose another"
            ) from None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; where too many are open, close the connection."""
        if not self._room.acquire(blocking=False):
            log.warning("more than %d connections; one was closed", MOST_CONNECTIONS)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Begin TLS in the connection's own thread: a client that says nothing delays nobody else."""
        request.settimeout(QUIET_SECONDS)
        with self._tls.wrap_socket(request, server_side=True) as encrypted:
            end = threading.Timer(WHOLE_SECONDS, _cut, (encrypted,))
            end.daemon = True
            end.start()
            try:
                super().finish_request(encrypted, client_address)
            finally:
                end.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Take no notice of a connection that ended early or is no TLS."""


class _Handler(BaseHTTPRequestHandler):
    server: HelperServer
    server_version, sys_version = "fedrec-helper", ""
    timeout = QUIET_SECONDS

    def do_GET(self) -> None:
        if self.path != HEALTH:
            self._say(404, "no such path")
            return
        self._send(200, framed({"ok": True, "key": self.server.service.key.text}))

    def do_POST(self) -> None:
        service = self.server.service
        answers: dict[str, Callable[[bytes], HelperAnswer]] = {
            COSIGN: lambda body: service.cosign(CosignRequest.decode(body)),
            OPEN: lambda body: service.open(RoundRequest.decode(body)),
        }
        answer, size = answers.get(self.path), self.headers.get("Content-Length", "")
        if answer is None:
            self._say(404, "no such path")
        elif not size.isascii() or not size.isdigit():
            self._say(411, "a request without a length")
        elif len(size) > 12 or int(size) > MOST_REQUEST:
            self._say(413, f"a request of more than {MOST_REQUEST} bytes")
        else:
            self._answer(answer, self.rfile.read(int(size)), int(size))

    def _answer(self, answer: Callable[[bytes], HelperAnswer], body: bytes, size: int) -> None:
        if len(body) < size:
            return  # the client has gone
        try:
            found = answer(body)
        except HeadUnknown as error:
            self._say(409, str(error), seen=error.seen)
        except (Malformed, InputError) as error:
            self._say(400, str(error))
        except FedrecError as error:
            self._say(403, str(error))
        except Exception as error:  # its text may quote what arrived
            log.error("%s: failed by an error in fedrec (%s)", self.path, type(error).__name__)
            self._say(500, "an error in fedrec; the helper's log names it")
        else:
            log.info("%s: answered", self.path)
            self._send(200, found.encode())

    def _say(self, status: int, why: str, **facts: int) -> None:
        line = " ".join(why.split())
        log.warning("%s: refused, %s", self.path if self.path in (COSIGN, OPEN, HEALTH) else "a request", line)
        self._send(status, framed({"error": line, **facts}))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing here: a request's line is the client's."""


def _cut(request: socket.socket) -> None:
    """End a connection that lasts too long."""
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
