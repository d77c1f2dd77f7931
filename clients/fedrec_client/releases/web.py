"""Downloads from one web server: bounded in bytes and time, without a redirect that leaves the host or HTTPS.

What a request reveals: the address of the device, the time, and the names of files, which follow from the version that
the device has. There is no cookie, no identifier, and no version in `User-Agent`.

A server that sends one byte a minute never meets a plain time-out. So a timer closes the connection when a
request takes longer than `patience` and the time of its bytes at `LEAST_RATE`, in headers too.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from fedrec.errors import InputError, VerificationError

LEAST_RATE = 2_000
"""Bytes a second that a download needs on average, beyond the patience."""
PATIENCE = 30.0
"""Seconds that a server may be silent."""
MOST_REDIRECTS = 3
_BLOCK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)


class Unreachable(InputError):
    """The server did not answer, or the connection broke; a later try may succeed."""


class TooSlow(Unreachable):
    """The server answers slower than `LEAST_RATE`."""


class Missing(Exception):
    """The server has no such file. Attributes: status: of HTTP."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An answer of the server.

    Attributes:
        start: first byte of the file that `blocks` begins with; 0 for a server without ranges.
        etag: name of the file's version, for a later `If-Range`; None without a strong one.
        blocks: its bytes.
    """

    start: int
    etag: str | None
    blocks: Iterator[bytes]


class WebServer:
    """The files below an address.

    Args:
        url: `https://HOST/PATH` or `http://HOST/PATH`.
        patience: seconds, see the module.

    Attributes:
        received: bytes of files that it sent so far, also of those that broke off.
    """

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url, self._patience = checked_url(url), patience
        self.received = 0
        self._connection: http.client.HTTPConnection | None = None
        self._open_to: tuple[str, str] | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._open_to = None, None

    @contextmanager
    def get(self, name: str, most: int, start: int = 0, etag: str | None = None) -> Iterator[Answer]:
        """Fetch a file.

        Args:
            name: path below the address.
            most: most bytes of the whole file; more of them end the download.
            start: first byte that is wanted.
            etag: of the answer that the bytes before are of.

        Raises:
            Missing: where there is no such file.
            Unreachable: for a broken connection, or a slow one.
            VerificationError: for more bytes than `most`, and for a redirect elsewhere.
        """
        with _Deadline(self._patience + (most - start) / LEAST_RATE) as closing:
            try:
                with self._errors(closing):
                    response = self._answered(urljoin(self.url, name), start, etag, closing)
                    began = _start(response, start)
                blocks = self._blocks(response, most - began, name, closing)
                yield Answer(began, _strong(response.headers.get("ETag")), blocks)
            except Missing:
                raise
            except BaseException:
                self.close()
                raise
        if not response.isclosed():
            self.close()

    @contextmanager
    def _errors(self, closing: "_Deadline") -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if closing.over or isinstance(error, TimeoutError):
                raise TooSlow(f"{self.url}: answers too slowly; try again later, or name another server") from None
            raise Unreachable(f"{self.url}: cannot be reached ({_reason(error)}); try again later") from None

    def _blocks(
        self, response: http.client.HTTPResponse, most: int, name: str, closing: "_Deadline"
    ) -> Iterator[bytes]:
        left = most
        if response.length is not None and response.length > left:
            raise VerificationError(f"{urljoin(self.url, name)}: is longer than it may be ({response.length:,} bytes)")
        while True:
            with self._errors(closing):
                block = response.read1(_BLOCK)
                if not block and (closing.over or response.length):
                    raise http.client.HTTPException("the connection ended early")
            if not block:
                response.close()  # the connection serves the next file
                return
            self.received += len(block)
            left -= len(block)
            if left < 0:
                raise VerificationError(
                    f"{urljoin(self.url, name)}: does not end where it must; do not trust this server"
                )
            yield block

    def _answered(self, url: str, start: int, etag: str | None, closing: "_Deadline") -> http.client.HTTPResponse:
        headers = {"User-Agent": "fedrec", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            headers |= {"If-Range": etag} if etag else {}
        for _ in range(MOST_REDIRECTS + 1):
            response = self._asked(url, headers, closing)
            if response.status in (200, 206):
                return response
            if response.length is not None and response.length <= _BLOCK:
                response.read()
            else:
                self.close()
            if response.status not in _REDIRECTS:
                raise Missing(response.status)
            url = _followed(url, response.headers.get("Location", ""))
        raise VerificationError(f"{self.url}: redirects in a circle; name the right address")

    def _asked(self, url: str, headers: dict[str, str], closing: "_Deadline") -> http.client.HTTPResponse:
        parts = urlsplit(url)
        fresh = self._open_to != (parts.scheme, parts.netloc)
        if fresh:
            self.close()
        try:
            return self._sent(url, headers, closing)
        except (OSError, http.client.HTTPException):
            if fresh or closing.over:
                raise
            self.close()  # a server may close a connection that it kept; ask once more on a new one
            return self._sent(url, headers, closing)

    def _sent(self, url: str, headers: dict[str, str], closing: "_Deadline") -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if self._connection is None or self._connection.sock is None:
            self._connection = self._connected(parts.scheme, str(parts.hostname), parts.port, closing)
            self._open_to = parts.scheme, parts.netloc
        closing.watch(self._connection.sock)
        self._connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
        return self._connection.getresponse()

    def _connected(self, scheme: str, host: str, port: int | None, closing: "_Deadline") -> http.client.HTTPConnection:
        """Open a connection whose every step the deadline ends, the handshake of TLS, too."""
        made: http.client.HTTPConnection
        raw = socket.create_connection((host, port or (443 if scheme == "https" else 80)), self._patience)
        try:
            closing.watch(raw)
            if scheme == "https":
                context = ssl.create_default_context()
                made = http.client.HTTPSConnection(host, port, context=context)
                raw = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
                closing.watch(raw)
                raw.do_handshake()
            else:
                made = http.client.HTTPConnection(host, port)
        except BaseException:
            raw.close()
            raise
        made.sock, made.auto_open = raw, 0  # it never opens another one, which nothing would watch
        return made


class _Deadline:
    """Shuts a connection down after a time; a context."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """Name the connection to shut down."""
        with self._lock:
            self._socket = connection
        if self.over:
            self._end()

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            if self._socket is not None:
                try:
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # under TLS, too: no word to the server
                except OSError:
                    return  # closed already


def checked_url(url: str) -> str:
    """Return the address of a folder, with a slash at its end. Raises: InputError for no address of a web server."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0
    except ValueError:
        right = False
    if not right or parts.query or parts.fragment or any(ord(letter) <= 32 for letter in url):
        raise InputError(f"{url}: no address of a folder; write https://HOST/PATH")
    return url if url.endswith("/") else url + "/"


def _followed(url: str, location: str) -> str:
    before, after = urlsplit(url), urlsplit(urljoin(url, location))
    upgraded = (before.scheme, after.scheme) == ("http", "https") and after.port in (None, 443)
    same = (before.scheme, before.port) == (after.scheme, after.port)
    if not location or before.hostname != after.hostname or not (same or upgraded) or after.username is not None:
        raise VerificationError(f"{url}: redirects to another place; name that address if you trust it")
    return after.geturl()


def _start(response: http.client.HTTPResponse, wanted: int) -> int:
    if response.status == 200:
        return 0
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    if unit != "bytes" or not rest.startswith(f"{wanted}-"):
        raise http.client.HTTPException("another range than was asked for")
    return wanted


def _strong(etag: str | None) -> str | None:
    return etag if etag and etag.startswith('"') and len(etag) < 200 else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
