"""Pages of other sites, other users of the machine, and broken programs: what none of them gets."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from fedrec_client.serve.device_service import FILE
from fedrec_client.serve.messages import Status
from fedrec_client.serve.routes import ROUTES

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.http.listening import on_loopback, on_unix
from fedrec.http.records import Nothing
from fedrec.http.routes import Route
from fedrec.http.service import Limits
from fedrec.http.token_file import token_in
from tests.client.edge.devices import device
from tests.client.serve.servers import ALLOWED, Served, served

ACT = {"item": "item-3"}
HOSTILE = [
    '"><img src=x onerror=alert(1)>',
    "</script><script>",
    '{"a":1}',
    "\u202eitem",
    "a\nb",
    "💥" * 9,
    "../../etc",
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda each: each.name)
def test_no_route_answers_without_the_token(empty: Served, route: Route) -> None:
    body = {"item": "item-3", "events": [], "everything": True}
    token = empty.token
    for given in (None, "", "Bearer", "Bearer ", f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}", token):
        status, headers, answer = empty.ask(route.path, body, Authorization=given)
        assert (status, answer["error"]["code"]) == (401, "wrong_token")
        assert token not in json.dumps(answer) + json.dumps(headers)
    assert empty.ask(f"{route.path}?token={token}", body, Authorization=None)[0] == 401
    assert empty.ask(route.path, body, Authorization=None, Cookie=f"token={token}")[0] == 401
    assert empty.client.events() == []


def test_a_token_in_an_address_is_refused_even_beside_the_right_one(empty: Served) -> None:
    status, _, answer = empty.ask(f"/v1/record?token={empty.token}", ACT)
    assert (status, answer["error"]["code"]) == (400, "query")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "0.0.0.0:{port}", "127.1:{port}", ""],
)
def test_a_name_that_points_here_is_refused(empty: Served, host: str) -> None:
    for path in ("/v1/record", "/fedrec.mjs", "/openapi.json"):
        status, _, answer = empty.ask(path, ACT, Host=host.format(port=empty.port))
        assert (status, answer["error"]["code"]) == (421, "foreign_host")
    assert empty.client.events() == []


def test_a_request_without_host_or_with_two_is_refused(empty: Served) -> None:
    end = f"Authorization: Bearer {empty.token}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n".encode()
    end += b"{}"
    assert empty.send(b"POST /v1/status HTTP/1.0\r\n" + end)[0] == 421
    own = f"Host: localhost:{empty.port}\r\n".encode()
    assert empty.send(b"POST /v1/status HTTP/1.1\r\n" + own + b"Host: evil.example\r\n" + end)[0] in (400, 421)
    assert empty.send(b"POST /v1/status HTTP/1.1\r\n" + own + end)[0] == 200
    assert empty.send(b"POST http://evil.example/v1/status HTTP/1.1\r\n" + own + end)[0] != 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "file://",
     f"{ALLOWED}.evil.example", f"{ALLOWED}/", "http://localhost:{port}@evil.example"],
)  # fmt: skip
def test_a_page_of_another_origin_is_refused(empty: Served, origin: str) -> None:
    origin = origin.format(port=empty.port)
    for method in ("POST", "OPTIONS", "GET"):
        status, headers, answer = empty.ask("/v1/record", ACT, Origin=origin, method=method)
        assert (status, answer["error"]["code"]) == (403, "foreign_origin")
        assert not [name for name in headers if name.startswith("access-control")]
    assert empty.client.events() == []


def test_own_and_allowed_origins_may_ask(empty: Served) -> None:
    for own in (f"http://127.0.0.1:{empty.port}", f"http://localhost:{empty.port}"):
        status, headers, _ = empty.ask("/v1/record", ACT, Origin=own)
        assert status == 200
        assert "access-control-allow-origin" not in headers
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    status, headers, _ = empty.ask("/v1/record", method="OPTIONS", Origin=ALLOWED, Authorization=None, **asked)
    assert status == 204
    assert headers["access-control-allow-origin"] == ALLOWED
    assert headers["access-control-allow-methods"] == "POST"
    for token in (f"Bearer {empty.token}", "Bearer wrong"):
        status, headers, _ = empty.ask("/v1/status", Origin=ALLOWED, Authorization=token)
        assert (status, headers["access-control-allow-origin"]) == (401 if "wrong" in token else 200, ALLOWED)
        assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "app.example", "http://*.example", "http://a.example/x", "http://u@a.example", "http://A.example"],
)
def test_what_is_no_origin_is_not_allowed(tmp_path: Path, origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["client", "serve", "--port", "0", "--state", str(tmp_path / "d"), "--allow-origin", origin]
    assert fedrec(command) == 2
    assert "no origin" in capsys.readouterr().err


def test_forms_of_pages_are_refused(empty: Served) -> None:
    """What a page can send without a question before it: other types of content."""
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"):
        status, _, answer = empty.ask("/v1/record", ACT, Content_Type=kind)
        assert (status, answer["error"]["code"]) == (415, "wrong_type")
    assert empty.ask("/v1/record", ACT, Content_Type="application/json; charset=utf-8")[0] == 200


def test_other_methods_are_refused(empty: Served) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "FORGET"):
        status, headers, _ = empty.ask("/v1/forget", {"everything": True}, method=method)
        assert status == 405, method
        assert headers["cache-control"] == "no-store"
    assert empty.ask("/v1/status", method="GET", X_HTTP_Method_Override="POST")[0] == 405
    assert empty.ask("/fedrec.mjs")[0] == 405


TRICKS = """/ //v1/record /v1/record/ /v1//record /v1/../v1/record /v1/./record /V1/record /v1/record%00 /v1/record;x
/fedrec.mjs/..%2f..%2fsecret /..%2f..%2fetc/passwd /fedrec.mjs%2f..%2fservice.py /v1/%2e%2e/x"""


@pytest.mark.parametrize("path", TRICKS.split())
def test_tricks_with_paths_find_nothing(empty: Served, path: str) -> None:
    assert empty.ask(path, ACT, Authorization=None)[0] == 401
    assert empty.ask(path, ACT)[0] == 404
    assert empty.client.events() == []


def test_bodies_are_bounded(empty: Served) -> None:
    most = Limits().body
    assert empty.ask("/v1/record", b"{}", Content_Length=str(most + 1))[2]["error"]["code"] == "too_large"
    head = f"POST /v1/record HTTP/1.1\r\nHost: localhost:{empty.port}\r\nAuthorization: Bearer {empty.token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with empty.connection() as made:
        made.sendall(head.encode())
        with suppress(BrokenPipeError, ConnectionResetError):  # it answers before all is sent, and ends the connection
            for _ in range(4 * most // 0x8000):
                made.sendall(chunk)
        assert b" 413 " in made.recv(100)
    assert empty.send(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n")[0] == 400


def test_slow_requests_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedrec.http.listening.IDLE_SECONDS", 0.3)
    with device(tmp_path / "d") as client, served(client, limits=Limits(arriving=0.3)) as server:
        status, _, answer = server.ask("/v1/record", b'{"item', Content_Length="900")
        assert (status, answer["error"]["code"]) == (408, "slow_body")
        with server.connection() as made:  # the head, a byte at a time, for longer than the limit
            end, closed = time.monotonic() + 5, False
            while not closed and time.monotonic() < end:
                try:
                    made.sendall(b"P")
                    made.settimeout(0.05)
                    closed = made.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    closed = True
            assert closed
        assert server.ask("/v1/status")[0] == 200


def test_a_call_that_hangs_ends_and_too_many_are_refused(tmp_path: Path) -> None:
    go = threading.Event()

    def wait(client: object, _: Nothing) -> Status:
        go.wait(20)
        raise ValueError("secret-item")

    slow = Route("slow", "Wait.", Nothing, Status, wait, 0.2)
    with device(tmp_path / "d") as client, served(client, routes=(*ROUTES, slow), limits=Limits(running=2)) as server:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _: server.ask("/v1/slow")[2]["error"]["code"], range(2)))
        assert found == ["slow", "slow"]
        assert server.ask("/v1/status")[2]["error"]["code"] == "busy", "calls that still run count"
        go.set()
        end = time.monotonic() + 10
        while server.ask("/v1/status")[0] != 200 and time.monotonic() < end:
            time.sleep(0.02)
        assert server.ask("/v1/status")[0] == 200


def test_an_internal_error_shows_no_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(client: object, _: Nothing) -> Status:
        raise ValueError("secret-item")

    route = Route("broken", "Fail.", Nothing, Status, broken)
    with device(tmp_path / "d") as client, served(client, routes=(route,)) as server:
        status, _, answer = server.ask("/v1/broken")
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "ValueError in test_attacks.py line" in answer["error"]["message"]
    printed = "".join(capfd.readouterr())
    assert "ValueError" in printed
    assert "secret-item" not in printed + json.dumps(answer)


def test_only_a_public_route_answers_without_the_token(tmp_path: Path) -> None:
    def answer(client: object, _: Nothing) -> Status:
        return Status(version="1", model=None, events=0, opted_out=False)

    route = Route("open", "Answer anybody.", Nothing, Status, answer, public=True)
    with device(tmp_path / "d") as client, served(client, routes=(*ROUTES, route)) as server:
        assert server.ask("/v1/open", Authorization=None)[0] == 200
        assert server.ask("/v1/open", Authorization=None, Origin="https://evil.example")[0] == 403
        assert server.ask("/v1/open", Authorization=None, Host="evil.example")[0] == 421
        assert server.ask("/v1/status", Authorization=None)[0] == 401
        paths = server.ask("/openapi.json", b"", method="GET")[2]["paths"]
    assert [path for path, each in paths.items() if each["post"].get("security") == []] == ["/v1/open"]


def test_nothing_personal_is_printed_or_logged(empty: Served, capfd: pytest.CaptureFixture[str], caplog) -> None:
    with caplog.at_level(0):
        empty.ask("/v1/record", {"item": "item-3"})
        empty.ask("/v1/explain", {"item": "very-private"})
        empty.ask("/v1/very-private")
        empty.send(b"very-private\r\n\r\n")
    printed = "".join(capfd.readouterr()) + caplog.text
    for secret in ("item-3", "very-private", empty.token):
        assert secret not in printed


@pytest.mark.parametrize("item", HOSTILE)
def test_hostile_ids_come_back_as_they_are_and_as_json(empty: Served, item: str) -> None:
    assert empty.ask("/v1/record", {"item": item})[0] == 200
    status, headers, answer = empty.ask("/v1/events")
    assert [each["item"] for each in answer["events"]] == [item]
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    status, headers, answer = empty.ask("/v1/similar", {"item": item})
    assert status == 400
    assert "\n" not in answer["error"]["message"]


def test_parallel_requests_lose_nothing(empty: Served) -> None:
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: empty.ask("/v1/record", {"item": f"item-{n % 30}"}), range(60)))
    assert {status for status, _, _ in found} <= {200, 503}
    numbers = [answer["number"] for status, _, answer in found if status == 200]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(empty.client.events()) == len(numbers) >= 32


def test_two_servers_share_a_store(tmp_path: Path) -> None:
    with device(tmp_path / "d") as one, device(tmp_path / "d") as other, served(one) as a, served(other) as b:
        assert a.token == b.token, "the second leaves the token of the first"
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: (a, b)[n % 2].ask("/v1/record", {"item": str(n)})[0], range(24)))
        assert found == [200] * 24
        assert len(a.ask("/v1/events")[2]["events"]) == len(b.ask("/v1/events")[2]["events"]) == 24
        assert a.ask("/v1/forget", {"everything": True})[0] == 200
        assert b.ask("/v1/events")[2]["events"] == []


def test_it_listens_on_this_machine_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", "", "127.0.0.2"):
        assert fedrec(["client", "serve", "--host", host, "--state", str(tmp_path / "d")]) == 2
        line = capsys.readouterr().err
        assert "only programs on this machine" in line
        assert line.count("\n") == 1
    with on_loopback("localhost", 0) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match="cannot be used"):
            on_loopback(host, port).__enter__()


def test_a_unix_socket_is_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "device.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with device(tmp_path / "d") as client:
        with served(client, unix=path) as server:
            assert path.lstat().st_mode & 0o777 == 0o600
            assert server.ask("/v1/record", ACT)[0] == 200
            assert server.ask("/v1/record", ACT, Authorization=None)[0] == 401
            assert server.ask("/v1/record", ACT, Host="evil.example")[0] == 421
            assert server.ask("/v1/record", ACT, Origin="https://evil.example")[0] == 403
            with pytest.raises(InputError, match="a program listens"):
                on_unix(path).__enter__()
        assert not path.exists()
    path.write_text("mine")
    with pytest.raises(InputError, match="another file"):
        on_unix(path).__enter__()
    assert path.read_text() == "mine"


def test_the_token_is_the_owners(tmp_path: Path) -> None:
    token = token_in(tmp_path / FILE)
    file = tmp_path / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(token) == 43
    assert token_in(tmp_path / FILE) == token
    assert (fresh := token_in(tmp_path / FILE, new=True)) != token
    assert token_in(tmp_path / FILE) == fresh
    file.chmod(0o640)
    with pytest.raises(InputError, match="others can read"):
        token_in(tmp_path / FILE)
    file.unlink()
    file.write_text("")
    file.chmod(0o600)
    with pytest.raises(InputError, match="holds no token"):
        token_in(tmp_path / FILE)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        token_in(tmp_path / FILE)
