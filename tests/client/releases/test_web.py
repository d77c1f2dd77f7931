"""Which host a download talks to: the named one, by HTTPS where it began with HTTPS."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

import contextlib
import re
import shutil
import socket
import ssl
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from fedrec_client import SyncOptions
from fedrec_client.releases.web import _followed, checked_url
from fedrec_server.pki.key_making import make

from fedrec.cli import run
from fedrec.errors import InputError, VerificationError
from tests.client.edge.devices import als
from tests.client.releases.publisher import Publisher, bare
from tests.client.releases.test_tuf_attacks import KEYS, refused, with_first
from tests.client.releases.web_server import Web, answer

QUICK = SyncOptions(patience=0.3)


def test_a_redirect_on_the_host_is_followed_and_one_elsewhere_is_not(
    tmp_path: Path, publisher: Publisher, web: Web
) -> None:
    with with_first(tmp_path / "device", publisher, web) as client, Web(publisher.folder.path) as other:
        other.start()
        publisher.publish(als(2))
        place = {"to": f"http://localhost:{web.server_address[1]}/metadata/timestamp.json"}

        def redirect(request) -> bool:
            return request.path == "/metadata/timestamp.json" and answer(request, b"", 302, Location=place["to"])

        web.hooks.append(redirect)
        for to in (place["to"], f"{other.url}metadata/timestamp.json", "//example.org/x", "file:///etc/passwd", ""):
            place["to"] = to
            refused(client, "redirects to another place")
        place["to"] = "/metadata/timestamp.json"
        refused(client, "redirects in a circle")
        place["to"] = "newest.json"
        shutil.copy(publisher.metadata / "timestamp.json", publisher.metadata / "newest.json")
        assert client.sync().changed
        assert not other.asked
        other.shutdown()


def test_https_needs_a_certificate_that_the_machine_trusts(
    tmp_path: Path, publisher: Publisher, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    make(folder, ["localhost"], ["one"], datetime.now(UTC))
    publisher.publish(als(1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with Web(publisher.folder.path) as secure, bare(tmp_path / "device") as client:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        secure.start()
        url = f"https://localhost:{secure.server_address[1]}/"
        with pytest.raises(InputError, match=r"cannot be reached.*(?i:certificate)"):
            client.sync(url, keys=KEYS)
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
        assert client.sync(url, keys=KEYS).changed
        publisher.publish(als(2))
        secure.hooks.append(lambda request: answer(request, b"", 302, Location=f"{web.url}metadata/timestamp.json"))
        with pytest.raises(VerificationError, match="redirects to another place"):
            client.sync()
        assert not web.asked
        secure.shutdown()


def test_a_handshake_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends a record of TLS byte by byte."""
    monkeypatch.setattr("fedrec_client.releases.web.LEAST_RATE", 1_000_000)

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            for byte in b"\x16\x03\x03\x40\x00" + b"\x02" * 200:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening, bare(tmp_path / "device") as client:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        began = time.monotonic()
        with pytest.raises(InputError, match="too slowly"):
            client.sync(f"https://127.0.0.1:{listening.getsockname()[1]}/", keys=KEYS, options=QUICK)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("before", "after", "right"),
    [
        ("https://a.org/x", "https://a.org/y", True),
        ("http://a.org/x", "https://a.org/x", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "https://b.org/x", False),
        ("https://a.org/x", "https://a.org:8443/x", False),
        ("http://a.org/x", "http://a.org:22/x", False),
        ("https://a.org/x", "https://me@a.org/x", False),
        ("https://a.org/x", "ftp://a.org/x", False),
        ("https://a.org/x/y", "../z", True),
    ],
)
def test_where_a_redirect_may_lead(before: str, after: str, right: bool) -> None:
    if right:
        assert _followed(before, after).startswith("https://a.org/")
        return
    with pytest.raises(VerificationError, match="another place"):
        _followed(before, after)


@pytest.mark.parametrize(
    "url",
    ["ftp://a.org/", "file:///etc", "https://", "https://me:pw@a.org/", "a.org", "https://a.org/?x=1", "http://a b/"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InputError, match="no address of a folder"):
        checked_url(url)


def test_without_python_tuf_a_sync_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in sys.modules if each.split(".")[0] in ("tuf", "securesystemslib")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fedrec_client.releases.trusted", raising=False)
    monkeypatch.delattr("fedrec_client.releases.trusted", raising=False)
    line = "pip install 'fedrec[sync]'"
    assert run(["client", "sync", "--url", "http://127.0.0.1:9/", "--key", *KEYS, "--state", f"{tmp_path}/device"]) == 2
    assert line in capsys.readouterr().err
    with bare(tmp_path / "device") as client, pytest.raises(InputError, match=re.escape(line)):
        client.sync("http://127.0.0.1:9/", keys=KEYS)
