"""The way to a llama.cpp server: this machine alone, by number; no redirect, proxy, name or endless answer."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fedrec.errors import InputError
from fedrec.generate.base import Limits, Prompt
from fedrec.generate.llama_cpp import LARGEST, LlamaServer, loopback_of

PROMPT = Prompt("the task", "the data")


class Served(HTTPServer):
    """Speaks llama.cpp's /v1/chat/completions, as its documentation describes it."""

    def __init__(self) -> None:
        self.status, self.headers, self.slow = 200, dict[str, str](), 0.0
        self.body = json.dumps(
            {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}]}
        ).encode()
        self.asked = list[tuple[str, dict[str, str], dict]]()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for place in range(0, len(self.server.body), 1 << 16) if not self.server.slow else range(20):
            try:
                self.wfile.write(self.server.body[place : place + (1 << 16)] if not self.server.slow else b" ")
            except OSError:
                return
            time.sleep(self.server.slow)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Served]:
    with Served() as made:
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        made.shutdown()


def test_it_speaks_the_documented_api(server: Served) -> None:
    model = LlamaServer(f"http://localhost:{server.server_port}", key="a-key")
    assert model.complete(PROMPT, Limits(tokens=7, characters=4)) == "hell"
    ((path, headers, asked),) = server.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer a-key"
    assert [each["role"] for each in asked["messages"]] == ["system", "user"]
    assert [each["content"] for each in asked["messages"]] == ["the task", "the data"]
    assert (asked["max_tokens"], asked["temperature"], asked["stream"], asked["cache_prompt"]) == (7, 0.0, False, False)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://192.168.1.4:8080",
            "http://10.0.0.1",
            "http://8.8.8.8",
            "http://[2001:db8::1]:8080",
            "http://0.0.0.0",
        ),
        *("http://model.example:8080", "http://127.0.0.1.model.example", "http://localhost.example", "http://loopback"),
        *("http://127.0.0.1@model.example", "http://me@127.0.0.1:8080", "http://127.0.0.1:8080@model.example/"),
        *("https://127.0.0.1", "ftp://127.0.0.1", "file:///etc/passwd", "http://", "http://127.0.0.1:99999"),
        *("http://2130706433", "http://0x7f.1", "http://127.1", "http://127.0.0.1/elsewhere", "http://127.0.0.1?q=1"),
        *(
            "http://[::ffff:8.8.8.8]:80",
            "http://127.0.0.1:8080\\@model.example",
            "127.0.0.1:8080",
            "http://127.0.0.1:0",
        ),
    ],
)
def test_every_address_but_the_loopback_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="on this machine alone"):
        LlamaServer(address)


def test_the_loopback_is_taken_by_number_and_localhost_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(host: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{host} is looked up")

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(socket, "gethostbyname", looked_up)
    assert loopback_of("http://localhost:81") == ("127.0.0.1", 81)
    assert loopback_of("http://127.0.0.9/") == ("127.0.0.9", 8080)
    assert loopback_of("http://[::1]:82") == ("::1", 82)


def test_a_redirect_and_a_proxy_are_not_followed(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with Served() as other:
        place = f"http://127.0.0.1:{other.server_port}"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, place)
        model = LlamaServer(f"http://127.0.0.1:{server.server_port}")
        assert model.complete(PROMPT, Limits()) == "hello"
        for status in (301, 302, 307, 308):
            server.status, server.headers = status, {"Location": f"{place}/v1/chat/completions"}
            with pytest.raises(InputError, match="Redirects are not followed"):
                model.complete(PROMPT, Limits())
        assert other.asked == []
        other.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.socket.accept()


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 7}}]}', b"[" * 100_000]
)
def test_an_answer_of_another_form_is_refused(server: Served, body: bytes) -> None:
    server.body = body
    with pytest.raises(InputError, match="is not that of llama"):
        LlamaServer(f"http://127.0.0.1:{server.server_port}").complete(PROMPT, Limits())


def test_an_answer_has_an_end(server: Served) -> None:
    model = LlamaServer(f"http://127.0.0.1:{server.server_port}")
    server.body = b" " * (LARGEST + 1)
    with pytest.raises(InputError, match="more than"):
        model.complete(PROMPT, Limits())
    server.slow = 0.05
    start = time.monotonic()
    with pytest.raises(InputError, match=r"within 0\.2 seconds"):
        model.complete(PROMPT, Limits(seconds=0.2))
    assert time.monotonic() - start < 5
    server.status, server.slow, server.body = 503, 0.0, b"{}"
    with pytest.raises(InputError, match="status 503"):
        model.complete(PROMPT, Limits())


def test_without_a_server_the_line_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match="start `llama-server"):
        LlamaServer(f"http://127.0.0.1:{port}").complete(PROMPT, Limits())
    with pytest.raises(InputError, match="ASCII"):
        LlamaServer(key="a\r\nHost: x")


@contextmanager
def only_loopback() -> Iterator[list[str]]:
    """Record where every socket connects to; fail for an address elsewhere."""
    seen: list[str] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        seen.append(str(address))
        assert isinstance(address, tuple)
        assert address[0] in ("127.0.0.1", "::1"), f"a socket to {address}"
        connect(self, address)

    socket.socket.connect = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


def test_no_socket_goes_elsewhere(server: Served) -> None:
    with only_loopback() as seen:
        LlamaServer(f"http://localhost:{server.server_port}").complete(PROMPT, Limits())
        assert seen == [f"('127.0.0.1', {server.server_port})"]
        with pytest.raises(AssertionError, match="a socket to"):
            socket.create_connection(("192.0.2.1", 9), timeout=0.01)
