"""LlamaServer: a model behind llama.cpp's HTTP server on this machine (`llama-server --host 127.0.0.1`).

Only the loopback is asked, by its number. No name is looked up: `localhost` means 127.0.0.1, and every other name is
refused, whatever it resolves to. Redirects are refused, and no setting of the environment names a proxy. The peer's
address is checked again once the connection is there. Another program of this machine that has the port reads the
prompt; a server with a key (`--api-key`) has to know it to answer, and does not prove who it is.
"""

import ipaddress
import json
import time
from http.client import HTTPConnection, HTTPException
from typing import ClassVar
from urllib.parse import urlsplit

from fedrec.errors import InputError
from fedrec.generate.base import LanguageModel, Limits, Prompt

LARGEST = 1 << 20
"""Bytes of an answer."""
PORT = 8080


class LlamaServer(LanguageModel):
    """A model behind a llama.cpp server on the loopback."""

    kind: ClassVar[str] = "llama.cpp"

    def __init__(self, address: str = "http://127.0.0.1:8080", key: str | None = None) -> None:
        """Remember where the server is; nothing is asked yet.

        Args:
            address: `http://127.0.0.1:PORT`, `http://[::1]:PORT` or `http://localhost:PORT`.
            key: of `--api-key`; None without one.

        Raises:
            InputError: for any other address.
        """
        self.host, self.port = loopback_of(address)
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InputError("the key of the llama.cpp server: give visible ASCII characters")
        self._key = key

    @property
    def name(self) -> str:
        return f"llama.cpp on port {self.port}"

    def complete(self, prompt: Prompt, limits: Limits) -> str:
        asked = {
            "messages": [{"role": "system", "content": prompt.task}, {"role": "user", "content": prompt.data}],
            "max_tokens": limits.tokens,
            "temperature": 0.0,
            "seed": 0,
            "stream": False,
            "cache_prompt": False,
        }
        status, content = self._post("/v1/chat/completions", json.dumps(asked).encode(), limits.seconds)
        if status != 200:
            more = " Redirects are not followed." if 300 <= status < 400 else ""
            raise InputError(f"{self.name}: answered with status {status}.{more} Check the server")
        try:
            found = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            found = None
        if not isinstance(found, str):
            raise InputError(f"{self.name}: the answer is not that of llama.cpp's /v1/chat/completions")
        return found[: limits.characters]

    def _post(self, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        end = time.monotonic() + seconds
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        connection = HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.connect()
            line = connection.sock  # the connection drops it once the answer begins
            if not ipaddress.ip_address(line.getpeername()[0]).is_loopback:
                raise InputError(f"{self.name}: the peer is not on this machine")
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = b""
            while part := answer.read1(1 << 16):
                content += part
                if len(content) > LARGEST:
                    raise InputError(f"{self.name}: the answer has more than {LARGEST:,} bytes")
                if time.monotonic() > end:
                    raise TimeoutError
                line.settimeout(max(0.01, end - time.monotonic()))
            return answer.status, content
        except TimeoutError:
            raise InputError(f"{self.name}: no answer within {seconds:g} seconds") from None
        except (OSError, HTTPException) as error:
            raise InputError(
                f"{self.name}: does not answer ({type(error).__name__}); start `llama-server -m FILE.gguf --host "
                f"127.0.0.1 --port {self.port}`"
            ) from None
        finally:
            connection.close()


def loopback_of(address: str) -> tuple[str, int]:
    """Return the number and port of an address on this machine.

    Args:
        address: a URL.

    Raises:
        InputError: for one elsewhere, one with a name other than localhost, and one with a user, a path or a query.
    """
    refused = InputError(
        f"{address!r}: a language model is asked on this machine alone; give http://127.0.0.1:PORT or http://[::1]:PORT"
    )
    try:
        parts = urlsplit(address)
        host = "127.0.0.1" if parts.hostname == "localhost" else ipaddress.ip_address(parts.hostname or "")
        port = PORT if parts.port is None else parts.port
    except ValueError:
        raise refused from None
    plain = parts.scheme == "http" and "@" not in parts.netloc and parts.path in ("", "/")
    if not plain or parts.query or parts.fragment or not port or not ipaddress.ip_address(str(host)).is_loopback:
        raise refused
    return str(host), port
