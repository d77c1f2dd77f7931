"""One line for everything that can be wrong between a node and its server, seen before the node starts."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fedrec_server.pki import key_making
from fedrec_server.pki.keyring import Keyring

from fedrec.errors import InputError
from fedrec.transport.node_key import new_node_key
from fedrec.transport.preflight import _names, address, preflight, trusting

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return key_making.make(tmp_path_factory.mktemp("keys") / "keys", [], ["a"], NOW)


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on the loopback that gives every connection to `answer`; yields its HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5)
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def tls(keyring: Keyring, date: Callable[[], datetime] | None = lambda: datetime.now(UTC)):
    """An answer over TLS with the certificate of `keyring`, whose `Date` says what `date` does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keyring.server_certificate, keyring.server_key)

    def answer(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as link:
            link.recv(4096)
            stamp = f"Date: {format_datetime(date(), usegmt=True)}\r\n" if date else ""
            link.sendall(f"HTTP/1.1 404 Not Found\r\n{stamp}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())

    return answer


def refused(server: str, ca: Path, key: Path | None = None, **options: float) -> str:
    with pytest.raises(InputError) as caught:
        preflight(server, ca, key, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("off", [-290, -1, 0, 4])
def test_the_right_server_passes(keyring: Keyring, off: int) -> None:
    key = keyring.nodes["a"][0]
    with listening(tls(keyring, lambda: datetime.now(UTC) - timedelta(seconds=off))) as server:
        preflight(server, keyring.ca_certificate, key)
        preflight(server.replace("127.0.0.1", "localhost"), keyring.ca_certificate, key)


def test_a_server_that_does_not_say_the_time_passes(keyring: Keyring) -> None:
    with listening(tls(keyring, None)) as server:
        preflight(server, keyring.ca_certificate)


@pytest.mark.parametrize(("off", "how"), [(60, "seconds ahead of"), (-900, "seconds behind")])
def test_clocks_that_differ(keyring: Keyring, off: int, how: str) -> None:
    """Flower's node ends with exit code 0 and no word of it."""
    with listening(tls(keyring, lambda: datetime.now(UTC) - timedelta(seconds=off))) as server:
        line = refused(server, keyring.ca_certificate)
    assert how in line
    assert "NTP" in line


def test_another_authority(keyring: Keyring, tmp_path: Path) -> None:
    other = key_making.make(tmp_path / "other", [], [], NOW)
    with listening(tls(keyring)) as server:
        line = refused(server, other.ca_certificate)
    assert "not signed by" in line
    assert str(other.ca_certificate) in line


def test_an_authority_that_is_followed_by_another(keyring: Keyring, tmp_path: Path) -> None:
    """Nodes with both certificates trust the server before and after its certificate changes hands."""
    mine = key_making.make(tmp_path / "mine", [], [], NOW)
    before = mine.ca_certificate.read_bytes()
    key_making.renew(mine, [], NOW, authority=True)
    both = tmp_path / "node-ca.crt"
    both.write_bytes(mine.ca_certificate.read_bytes())
    with listening(tls(mine)) as server:
        preflight(server, both)
    key_making.renew(mine, [], NOW)
    old = tmp_path / "old.crt"
    old.write_bytes(before)
    with listening(tls(mine)) as server:
        preflight(server, both)
        preflight(server, mine.ca_certificate)
        assert "not signed by" in refused(server, old)


def test_an_expired_certificate_says_when(tmp_path: Path) -> None:
    old = key_making.make(tmp_path / "old", [], [], NOW - 10 * DAY, days=5)
    with listening(tls(old)) as server:
        assert f"expired on {(NOW - 5 * DAY).date()}" in refused(server, old.ca_certificate)


def test_a_certificate_of_tomorrow(tmp_path: Path) -> None:
    later = key_making.make(tmp_path / "later", [], [], NOW + 10 * DAY)
    with listening(tls(later)) as server:
        assert "set the clock" in refused(server, later.ca_certificate)


def test_a_certificate_for_other_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = key_making.make(tmp_path / "mine", ["10.1.2.3"], [], NOW)
    with listening(tls(mine)) as server:
        real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
        line = refused(server.replace("127.0.0.1", "fed.example.org"), mine.ca_certificate)
    assert "not for fed.example.org but for localhost, 127.0.0.1, ::1, 10.1.2.3" in line
    assert "--host fed.example.org" in line


def test_a_hostile_certificate_writes_nothing_but_text(keyring: Keyring) -> None:
    """Names in a certificate may hold anything; an escape sequence would reach the terminal."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    names = [x509.DNSName(f"\x1b[2J\n{n}" + "x" * 200) for n in range(40)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA384())
    )
    shown = _names(certificate)
    assert len(shown) == 10
    assert all(name.isprintable() and len(name) <= 80 for name in shown)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["http", "closes"])
def test_a_server_without_tls(keyring: Keyring, answer: bytes) -> None:
    def plain(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with listening(plain) as server:
        assert "speaks no TLS" in refused(server, keyring.ca_certificate)


def test_nobody_listens(keyring: Keyring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "cannot be reached" in refused(f"127.0.0.1:{port}", keyring.ca_certificate)


def test_a_server_that_never_answers(keyring: Keyring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = refused(f"127.0.0.1:{server.getsockname()[1]}", keyring.ca_certificate, timeout=0.2)
    assert "no answer" in line


def test_an_unknown_host(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "no such host" in refused("fed.example.org:9092", keyring.ca_certificate)


def test_the_files_are_looked_at_before_the_network(keyring: Keyring, tmp_path: Path) -> None:
    nowhere = "127.0.0.1:1"
    assert "cannot be read" in refused(nowhere, tmp_path / "ca.crt")
    assert "stays with the server" in refused(nowhere, keyring.ca_key)
    assert "no certificate" in refused(nowhere, keyring.nodes["a"][1])
    key = tmp_path / "key"
    new_node_key(key)
    key.chmod(0o644)
    assert "others can read this key" in refused(nowhere, keyring.ca_certificate, key)
    assert "not a node's private key" in refused(nowhere, keyring.ca_certificate, keyring.server_key)
    with pytest.raises(InputError, match=r"ca.crt: expired on 20"):
        trusting(keyring.ca_certificate, NOW + 4000 * DAY)


def test_an_address_is_a_host_and_a_port() -> None:
    assert address("fed.example.org:9092") == ("fed.example.org", 9092)
    assert address("[::1]:9092") == ("::1", 9092)
    for text in ("fed.example.org", "https://fed.example.org:9092", ":9092", "::1:9092", "a:0", "a:99999", "a:x"):
        with pytest.raises(InputError, match="HOST:PORT"):
            address(text)
