"""The server's way to its helper: HTTPS under the authority in the helper's public file, and patience.

A helper that is away is asked again until a deadline: the same request has the same answer, also after a restart.
"""

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from fedrec.audit.card.helper import MOST_ADDRESS, CardHelper
from fedrec.errors import FedrecError, InputError
from fedrec.secagg import Malformed
from fedrec_server.helper.keys import HelperPublic
from fedrec_server.helper.messages import (
    COSIGN,
    HEALTH,
    OPEN,
    CosignRequest,
    HelperAnswer,
    RoundRequest,
    unframed,
)

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""Seconds for an answer; a sum over 1,000 nodes and a million numbers takes one to two."""
AGAIN_SECONDS = 0.5
MOST_ANSWER = 1 << 30
"""Bytes of an answer."""


class HelperAway(FedrecError):
    """The helper did not answer in time (exit code 5). Finished rounds are saved."""

    exit_code = 5


class HelperRefused(FedrecError):
    """The helper refused a request. seen: records of the ledger that it saw; None where that is not the reason."""

    exit_code = 4

    def __init__(self, message: str, seen: int | None = None) -> None:
        super().__init__(message)
        self.seen = seen


class HelperAccess(Protocol):
    """A helper, however it is reached.

    Attributes:
        named: its public parts and its address, for the run card.
    """

    named: CardHelper

    def there(self, until: float) -> None:
        """Return when the helper answers. Raises: HelperAway at `until`, by the monotonic clock."""
        ...

    def cosign(self, asked: CosignRequest, until: float) -> HelperAnswer:
        """Ask for a cosignature. Raises: HelperAway; HelperRefused."""
        ...

    def open(self, asked: RoundRequest, until: float) -> HelperAnswer:
        """Ask for the sum of a round's masks. Raises: HelperAway; HelperRefused."""
        ...


class HelperLink:
    """A helper behind an address.

    Args:
        address: `https://HOST:PORT`.
        public: the public parts, from its file.
        clock: of deadlines, in seconds.

    Raises: InputError for an address that cannot be.
    """

    def __init__(self, address: str, public: HelperPublic, clock: Callable[[], float] = time.monotonic) -> None:
        self._host, self._port = host_and_port(address)
        helper = public.helper
        self.named = CardHelper(helper.key, helper.seeds, helper.proof, address)
        self._clock = clock
        self._tls = ssl.create_default_context(cadata=public.authority)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3

    def there(self, until: float) -> None:
        """Return when the helper answers with the key of its public file. Raises: HelperAway; HelperRefused."""
        line, _ = unframed(self._asked("GET", HEALTH, b"", until))
        if line.get("key") != self.named.key.text:
            raise HelperRefused(f"{self.named.address}: is another helper than the one of its public file")

    def cosign(self, asked: CosignRequest, until: float) -> HelperAnswer:
        """Ask for a cosignature. Raises: HelperAway; HelperRefused."""
        return HelperAnswer.decode(self._asked("POST", COSIGN, asked.encode(), until))

    def open(self, asked: RoundRequest, until: float) -> HelperAnswer:
        """Ask for the sum of a round's masks. Raises: HelperAway; HelperRefused."""
        return HelperAnswer.decode(self._asked("POST", OPEN, asked.encode(), until))

    def _asked(self, method: str, path: str, body: bytes, until: float) -> bytes:
        while True:
            try:
                status, answer = self._once(method, path, body)
                if status == 200:
                    return answer
                if status < 500:
                    raise _refusal(answer)
                why = f"status {status}"
            except ssl.SSLCertVerificationError as error:
                raise HelperRefused(
                    f"{self.named.address}: its certificate is not one of its public file ({error.verify_message}); "
                    "check the address and --helper-key"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                why = getattr(error, "strerror", None) or type(error).__name__
            if self._clock() >= until:
                raise HelperAway(
                    f"{self.named.address}: the helper does not answer ({why}); finished rounds are saved: start it "
                    "again (fedrec helper start) and continue with --resume"
                )
            time.sleep(AGAIN_SECONDS)

    def _once(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        with (
            socket.create_connection((self._host, self._port), CONNECT_SECONDS) as plain,
            self._tls.wrap_socket(plain, server_hostname=self._host) as connection,
        ):
            connection.settimeout(ANSWER_SECONDS)
            link = http.client.HTTPConnection(self._host, self._port)
            link.sock = connection
            link.request(method, path, body, {"Content-Length": str(len(body))} if method == "POST" else {})
            answer = link.getresponse()
            content = answer.read(MOST_ANSWER + 1)
        if len(content) > MOST_ANSWER or str(len(content)) != answer.headers.get("Content-Length"):
            raise http.client.HTTPException
        return answer.status, content


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of `https://HOST:PORT`. Raises: InputError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    whole = host is not None and port is not None and parts.scheme == "https" and parts.path in ("", "/")
    if not whole or parts.query or parts.username or len(address) > MOST_ADDRESS or not address.isprintable():
        raise InputError(f"--helper {address}: must be https://HOST:PORT, as `fedrec helper start` prints it")
    assert host is not None
    assert port is not None
    return host, port


def _refusal(answer: bytes) -> HelperRefused:
    try:
        line, _ = unframed(answer)
    except Malformed:
        line = {}
    why, seen = line.get("error"), line.get("seen")
    text = " ".join(why.split())[:500] if isinstance(why, str) else "without a reason"
    return HelperRefused(f"the helper refused: {text}", seen if type(seen) is int else None)
