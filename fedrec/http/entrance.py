"""Who may ask: checks of Host, Origin and token, and the answers to a browser's questions before a request.

- Host: a page of another site whose name an attacker points at 127.0.0.1 (DNS rebinding) sends its own name.
- Origin: a browser sends it with every POST; a page of another site (CSRF), a file and a sandbox are refused.
- Token: other users of the machine reach the port, and cannot read the file with the token.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from fedrec.errors import InputError

_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        code: for programs.
        message: one line for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Entrance:
    """The rules of one server.

    Attributes:
        hosts: values of Host that are its own; None where any is.
        origins: other origins whose pages may ask.
        token: the secret; None where none is needed.
    """

    hosts: frozenset[str] | None
    origins: frozenset[str]
    token: str | None

    @classmethod
    def of(cls, port: int | None, origins: tuple[str, ...], token: str | None) -> "Entrance":
        """Make the rules of a server on this machine.

        Args:
            port: on the loopback; None for a Unix socket.
            origins: pages of other servers that may ask, e.g. http://localhost:3000.
            token: the secret.

        Raises:
            InputError: for what is no origin; `null` and `*` are none.
        """
        ends = ("",) if port is None else (f":{port}", *([""] if port == 80 else []))
        return cls.named(frozenset(name + end for name in _NAMES for end in ends), origins, token)

    @classmethod
    def named(cls, hosts: frozenset[str] | None, origins: tuple[str, ...], token: str | None) -> "Entrance":
        """Make the rules of a server with these values of Host; None for any. Raises: InputError, as `of`."""
        for each in origins:
            _check_origin(each)
        return cls(hosts, frozenset(origins), token)

    def check_host(self, headers: Headers) -> None:
        """Refuse a request that was sent to another name."""
        found = headers.getlist("host")
        if len(found) != 1 or (self.hosts is not None and found[0].lower() not in self.hosts):
            raise Refusal(421, "foreign_host", "the Host header is not this server's; ask 127.0.0.1 with its port")

    def check_origin(self, headers: Headers) -> str | None:
        """Refuse a page of another server; return its origin where the owner allowed it."""
        found = headers.getlist("origin")
        if not found:
            return None
        if len(found) == 1 and found[0] in self.origins:
            return found[0]
        if len(found) == 1 and found[0] in {f"http://{host}" for host in self.hosts or ()}:
            return None
        raise Refusal(403, "foreign_origin", "pages of this origin may not ask; see --allow-origin")

    def check_token(self, headers: Headers) -> None:
        """Refuse a request without the token, in a time that says nothing about it."""
        if self.token is None:
            return
        found = headers.getlist("authorization")
        scheme, _, given = (found[0] if len(found) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refusal(401, "wrong_token", "send 'Authorization: Bearer TOKEN' with the token of the server's file")


def cross_origin(origin: str | None) -> Mapping[str, str]:
    """Return the headers by which a browser lets a page of an allowed origin read the answer."""
    return {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def preflight(headers: Headers) -> Mapping[str, str]:
    """Return the headers that answer a browser's question before the request of an allowed page."""
    found = {
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    if headers.get("access-control-request-private-network") == "true":
        found["Access-Control-Allow-Private-Network"] = "true"
    return found


def _check_origin(text: str) -> None:
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        named = False
    if (
        not (named and parts.scheme in ("http", "https") and text == f"{parts.scheme}://{parts.netloc}".lower())
        or "*" in text
    ):
        raise InputError(f"--allow-origin {text}: no origin; write scheme, name and port, e.g. http://localhost:3000")
