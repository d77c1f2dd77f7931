"""Client of Flower's Control API for nodes and runs. The server admits only requests with its secret (`gate`).

Source: flwr 1.41.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedrec.errors import InputError

HEADER = "x-fedrec-control"
"""The header that carries the secret, inside TLS."""


class _Secret:
    """Adds the secret to every request."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: Any, call_next: Any) -> Any:
        context.request.headers[HEADER] = self._secret
        return call_next(context)


@contextlib.contextmanager
def control(address: str, ca: Path, secret: str = "") -> Iterator[Any]:
    """Yield a client for the link at `address` (HOST:PORT), whose certificate `ca` signed.

    Raises:
        InputError: when `ca` cannot be read; during the block, when the server refuses or does not answer.
    """
    import httpx
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

    interceptors = [RuntimeVersionHttpInterceptor(component_name="flwr CLI"), _Secret(secret)]
    try:
        trusted = ca.read_bytes()
    except OSError as error:
        raise InputError(f"{ca}: cannot be read ({error.strerror}); the running server began with it") from None
    client = ControlHttpClient.from_server_address(address, False, trusted, interceptors)
    try:
        yield client
    except httpx.HTTPStatusError as error:
        raise InputError(f"{address}: the server refused ({error.response.text[:200]})") from None
    except httpx.HTTPError as error:
        raise InputError(f"{address}: no answer ({error}); is `fedrec server` running?") from None
    finally:
        client.close()
