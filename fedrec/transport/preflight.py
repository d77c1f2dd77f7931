"""Checks before a node starts: does the server at this address have a certificate that the node trusts?

Flower's node reports little when it is refused. It ends with exit code 0 if its clock is wrong, and retries forever if
no server listens. Here one TLS connection, verified as Flower verifies it, gives one line for each of these faults.
"""

import contextlib
import http.client
import socket
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509

from fedrec.errors import InputError
from fedrec.transport.node_key import public_part

AHEAD, BEHIND = 5.0, 300.0
"""Seconds by which a node's clock may be ahead of the server's, or behind it, before Flower refuses its signature."""

COARSE = 2.0
"""Seconds by which a server's clock may be ahead of its `Date` header, which counts whole seconds."""

_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 64}
_OTHER_SIGNER = {7, 18, 19, 20, 21}
"""OpenSSL's X509_V_ERR_* numbers, stable since they are its interface."""


class Unreachable(InputError):
    """The server does not answer, or not with a whole answer. A later attempt may succeed."""


def preflight(server: str, ca: Path, key: Path | None = None, timeout: float = 10.0) -> None:
    """Check that a node can talk to a server. Only a started node can check that the server accepts its key.

    Args:
        server: HOST:PORT.
        ca: the only certificate that the node trusts.
        key: the node's private key; None without one.
        timeout: seconds for each step.

    Raises:
        InputError: for files that cannot be used, a server without TLS, clocks that differ, or a certificate that is
            expired, for other hosts or not signed by `ca`.
        Unreachable: when there is no such host, or no whole answer.
    """
    host, port = address(server)
    context = trusting(ca)
    if key is not None:
        public_part(key)
    try:
        with _connected(server, host, port, timeout) as plain, _secured(plain, context, server, host, ca) as link:
            _compare_clocks(link, server, host)
    except TimeoutError:
        raise Unreachable(f"{server}: no answer within {timeout:g} seconds; is it a fedrec server?") from None


def address(server: str) -> tuple[str, int]:
    """Parse `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        InputError: for any other text.
    """
    host, _, port = server.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare and "/" not in bare and port.isdecimal() and 0 < int(port) < 65536 and (":" not in host or bare != host):
        return bare, int(port)
    raise InputError(f"--server {server}: no address; write HOST:PORT (an IPv6 address in brackets), no https://")


def trusting(ca: Path, now: datetime | None = None) -> ssl.SSLContext:
    """Make a client's TLS context that trusts the certificates in `ca` alone, and checks the host's name.

    Raises:
        InputError: for a file that cannot be read, holds a private key or no certificate, or has expired.
    """
    try:
        content = ca.read_bytes()
    except OSError as error:
        raise InputError(f"--ca {ca}: cannot be read ({error.strerror}); it is the server's ca.crt") from None
    if b"PRIVATE KEY" in content:
        raise InputError(f"--ca {ca}: is a private key, which stays with the server; give its ca.crt")
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise InputError(f"--ca {ca}: no certificate in PEM; give the server's ca.crt") from None
    last = max(certificate.not_valid_after_utc for certificate in certificates)
    if last <= (now or datetime.now(UTC)):
        raise InputError(f"--ca {ca}: expired on {last.date()}; get the new ca.crt from the operator of the server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the same context as Flower's, for the same verdict
    context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    return context


def _connected(server: str, host: str, port: int, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=timeout)
    except socket.gaierror:
        raise Unreachable(f"--server {server}: no such host; check the name, or this machine's name service") from None
    except TimeoutError:
        raise Unreachable(
            f"--server {server}: nothing answers within {timeout:g} seconds; check address and firewall"
        ) from None
    except OSError as error:
        raise Unreachable(
            f"--server {server}: cannot be reached ({error.strerror}); is it started, are host and port right?"
        ) from None


def _secured(plain: socket.socket, context: ssl.SSLContext, server: str, host: str, ca: Path) -> ssl.SSLSocket:
    peer = plain.getpeername()[:2]
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise InputError(_distrusted(error, peer, server, host, ca)) from None
    except (ssl.SSLError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        broke_off = isinstance(error, ConnectionError | ssl.SSLEOFError)  # e.g. a server that is still starting
        raise (Unreachable if broke_off else InputError)(
            f"--server {server}: speaks no TLS ({reason}); give the port of `fedrec server`, never one without TLS"
        ) from None


def _distrusted(error: ssl.SSLCertVerificationError, peer: tuple[str, int], server: str, host: str, ca: Path) -> str:
    """Return one line on a certificate that did not verify; it is fetched once more for its content."""
    shown = _shown(peer)
    code = error.verify_code
    if code in _OTHER_SIGNER:
        return (
            f"--server {server}: its certificate is not signed by {ca}; get ca.crt from the operator of the server, "
            f"or it is another server"
        )
    if code in _EXPIRED:
        when = f" on {shown.not_valid_after_utc.date()}" if shown else ""
        return (
            f"--server {server}: its certificate expired{when}; `fedrec keys renew DIR` on the server, then restart it"
        )
    if code in _NOT_YET:
        when = f" from {shown.not_valid_before_utc.isoformat(' ')} on" if shown else " later"
        return f"--server {server}: its certificate is valid{when}; set the clock of this machine or of the server"
    if code in _OTHER_NAME:
        names = f" but for {', '.join(_names(shown))}" if shown else ""
        return (
            f"--server {server}: its certificate is not for {host}{names}; use one of its names, or "
            f"`fedrec keys renew DIR --host {host}` on the server"
        )
    return f"--server {server}: its certificate is refused ({error.verify_message}); renew it on the server"


def _shown(peer: tuple[str, int]) -> x509.Certificate | None:
    with contextlib.suppress(OSError, ValueError):
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(peer, timeout=5).encode("ascii"))
    return None


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ["no host"]
    # The other side wrote these: nothing of it may reach a terminal but plain characters.
    return ["".join(filter(str.isprintable, str(name.value)))[:80] for name in names][:10]


def _compare_clocks(link: ssl.SSLSocket, server: str, host: str) -> None:
    """Raises: InputError when Flower will refuse the node's signed time for certain; a server without `Date` passes."""
    connection = http.client.HTTPConnection(host)
    connection.sock = link
    before = time.time()
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        stamp = parsedate_to_datetime(connection.getresponse().getheader("Date") or "").timestamp()
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError):
        return
    ahead, behind = before - (stamp + COARSE), stamp - time.time()
    if ahead > AHEAD or behind > BEHIND:
        how = f"{ahead:.0f} seconds ahead of" if ahead > 0 else f"{behind:.0f} seconds behind"
        raise InputError(
            f"this machine's clock is {how} that of {server}, which will refuse it (at most {AHEAD:g} ahead, "
            f"{BEHIND:g} behind); set it by NTP"
        )
