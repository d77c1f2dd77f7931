"""The gate before Flower's SuperLink: everything but the nodes' API is for this machine alone.

Flower's Control API registers nodes and submits runs; its Runtime API serves the ServerApp. Both listen at the same
port as the nodes' API, open to anyone who reaches the port. `python -m fedrec_server.process.gate OPTIONS` is
`flower-superlink OPTIONS` with one layer of ASGI before it:

| path | allowed |
|---|---|
| `/v1/fleet/...` | everybody; node authentication follows |
| `/v1/runtime/...` | this machine |
| `/v1/control/...` | this machine, with the secret in the file that FEDREC_CONTROL_SECRET names |
| all else | nobody |

"""

import hmac
import ipaddress
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fedrec.transport import interfaces
from fedrec.transport.control import HEADER

SECRET_VARIABLE = "FEDREC_CONTROL_SECRET"
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Gate:
    """ASGI layer: forward allowed requests to `app`, and answer others with 403 and an empty body."""

    def __init__(self, app: Any, secret: str) -> None:
        if len(secret) < 32:
            raise ValueError("the secret must have at least 32 characters")
        self._app, self._secret = app, secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._passes(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    def _passes(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if ".." in path:
            return False
        if path.startswith("/v1/fleet/"):
            return True
        if not _from_here(scope):
            return False
        if path.startswith("/v1/runtime/"):
            return True
        given = next((value for name, value in scope["headers"] if name == HEADER.encode()), b"")
        return path.startswith("/v1/control/") and hmac.compare_digest(given, self._secret)


def _from_here(scope: Scope) -> bool:
    """Whether the client is this machine: the loopback, or the same address as the server's."""
    client, server = scope.get("client"), scope.get("server")
    if client is None:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or (server is not None and client[0] == server[0])


def main() -> None:
    """Run `flower-superlink` behind the gate, with its options from the command line."""
    secret = Path(os.environ[SECRET_VARIABLE]).read_text(encoding="ascii").strip()
    # The layer that is added last is the first to see a request.
    interfaces.wrap_link(lambda app: app.add_middleware(Gate, secret=secret))()


if __name__ == "__main__":
    main()
