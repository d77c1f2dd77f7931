"""The helper's door: TLS under its own authority, one bounded request a connection, one line for what it refuses."""

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fedrec_server.helper import listening
from fedrec_server.helper.keys import HelperKeys, read_public
from fedrec_server.helper.link import HelperAway, HelperLink, HelperRefused, host_and_port
from fedrec_server.helper.listening import HelperServer
from fedrec_server.helper.messages import COSIGN, HEALTH, MOST_REQUEST, OPEN, CosignRequest
from fedrec_server.helper.named import named
from fedrec_server.helper.service import HelperService
from fedrec_server.pki.certificates import hosts_of

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from fedrec.transport.state import State


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> HelperKeys:
    made, fresh = HelperKeys.made(tmp_path_factory.mktemp("helper"))
    assert fresh
    made.certify([])
    return made


@pytest.fixture
def server(keys: HelperKeys, tmp_path: Path) -> Iterator[HelperServer]:
    service = HelperService(tmp_path / "state", keys)
    with HelperServer(("127.0.0.1", 0), service, keys.tls.server_certificate, keys.tls.server_key) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def address(server: HelperServer) -> str:
    return f"https://127.0.0.1:{server.server_address[1]}"


def asked(server: HelperServer, keys: HelperKeys, *request: object) -> tuple[int, bytes]:
    tls = ssl.create_default_context(cadata=keys.public.authority)
    link = http.client.HTTPSConnection("127.0.0.1", server.server_address[1], context=tls, timeout=10)
    link.request(*request)
    found = link.getresponse()
    return found.status, found.read()


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (("GET", HEALTH), 200, b'"ok": true'),
        (("GET", "/"), 404, b"no such path"),
        (("POST", "/other", b""), 404, b"no such path"),
        (("POST", OPEN, b"", {"Content-Length": "x"}), 411, b"without a length"),
        (("POST", OPEN, b"", {"Content-Length": str(MOST_REQUEST + 1)}), 413, b"more than"),
        (("POST", OPEN, b"", {"Content-Length": "9" * 4000}), 413, b"more than"),
        (("POST", OPEN, b"garbage"), 400, b"no message of a helper"),
        (("POST", COSIGN, CosignRequest("no card", "", (bytes(32),)).encode()), 403, b"without a checkpoint"),
        (("PUT", OPEN, b""), 501, b""),
    ],
    ids=str,
)
def test_a_request_has_one_answer(server: HelperServer, keys: HelperKeys, request_, status: int, why: bytes) -> None:
    found, body = asked(server, keys, *request_)
    assert (found, why in body) == (status, True)


def test_the_link_speaks_to_the_helper_of_its_file(server: HelperServer, keys: HelperKeys, tmp_path: Path) -> None:
    link = HelperLink(address(server), keys.public)
    link.there(0.0)
    with pytest.raises(HelperRefused, match="without a checkpoint"):
        link.cosign(CosignRequest("no card", "", (bytes(32),)), 0.0)
    other, _ = HelperKeys.made(tmp_path / "other")
    with pytest.raises(HelperRefused, match="certificate is not one of its public file"):
        HelperLink(address(server), other.public).there(0.0)


def test_an_absent_helper_is_one_line(keys: HelperKeys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"https://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(HelperAway, match=r"does not answer \(Connection refused\); .* continue with --resume"):
        HelperLink(place, keys.public).there(time.monotonic() + 0.6)


def test_who_says_nothing_delays_nobody_and_too_many_are_closed(
    server: HelperServer, keys: HelperKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "QUIET_SECONDS", 1.0)
    port = server.server_address[1]
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(listening.MOST_CONNECTIONS - 1)]
    assert asked(server, keys, "GET", HEALTH)[0] == 200
    silent += [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    silent[-1].settimeout(10)
    assert silent[-1].recv(1) == b"", "one more than there is room for"
    for each in silent:
        each.close()


def test_a_connection_has_an_end(server: HelperServer, keys: HelperKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then keeps no thread forever."""
    monkeypatch.setattr(listening, "WHOLE_SECONDS", 0.3)
    tls = ssl.create_default_context(cadata=keys.public.authority)
    plain = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10)
    with tls.wrap_socket(plain, server_hostname="127.0.0.1") as slow:
        slow.sendall(b"POST /open HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # and no TimeoutError
            assert slow.recv(1) == b""


def test_keys_stay_and_certificates_are_renewed_with_their_hosts(tmp_path: Path) -> None:
    keys, _ = HelperKeys.made(tmp_path)
    keys.certify(["helper.example.org"])
    first = keys.tls.server()
    again, fresh = HelperKeys.made(tmp_path)
    again.certify([])
    assert not fresh
    assert (again.public, again.tls.server()) == (keys.public, first)
    again.certify([], datetime.now(UTC) + timedelta(days=340))
    assert again.tls.server() != first
    assert "helper.example.org" in hosts_of(again.tls.server())
    assert read_public(tmp_path / "helper.pub") == keys.public
    assert (tmp_path / "helper.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", [("ed25519:", "ed25519:A"), ("x25519:", "x25519:AA"), ('proof = "', 'proof = "00')])
def test_a_public_file_that_was_changed_is_refused(keys: HelperKeys, tmp_path: Path, change) -> None:
    file = tmp_path / "helper.pub"
    file.write_text(keys.public.text().replace(*change))
    with pytest.raises(InputError, match="no public file of a helper, or it was changed"):
        read_public(file)


def test_another_key_for_seeds_is_not_vouched_for(keys: HelperKeys, tmp_path: Path) -> None:
    """A server could put its own X25519 key under a pinned helper's name."""
    other, _ = HelperKeys.made(tmp_path / "other")
    file = tmp_path / "helper.pub"
    file.write_text(keys.public.text().replace(keys.public.seeds, other.public.seeds))
    with pytest.raises(InputError, match="was changed"):
        read_public(file)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:9", "http://h:9", "https://h", "https://h:x", "https://u@h:9", "https://h:9/x"]
)
def test_an_address_is_https_with_a_port(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be https://HOST:PORT"):
        host_and_port(text)


def test_address_and_file_go_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="go together"):
        named("https://127.0.0.1:9443", None)
    assert named(None, None) is None
    command = [
        "server",
        "start",
        "--keys",
        str(tmp_path),
        "--helper",
        "https://h:9",
        "--helper-key",
        str(tmp_path / "x"),
    ]
    assert fedrec(command) == 2


def test_a_helper_starts_serves_and_ends_in_order(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, command = tmp_path / "helper", [sys.executable, "-m", "fedrec.cli", "helper", "start"]
    process = subprocess.Popen([*command, str(folder), "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    try:
        while (facts := State(folder).running()) is None:
            assert process.poll() is None
            time.sleep(0.05)
        HelperLink(facts["address"], read_public(folder / "helper.pub")).there(time.monotonic() + 20)
        assert fedrec(["helper", "start", str(folder)]) == 2
        assert "in use by process" in capsys.readouterr().err
        assert fedrec(["helper", "show", str(folder)]) == 0
        assert f'helpers = ["{facts["key"]}"]' in capsys.readouterr().out
        assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
    finally:
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "made a helper's keys" in said
    assert said.endswith("ending\n")
    assert State(folder).running() is None
