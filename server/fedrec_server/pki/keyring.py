"""The folder of a server's keys: its files, and checks that a server can start with them.

    DIR/ca.crt                  certificates that nodes trust; two while one authority replaces another
    DIR/ca.key                  signs new server certificates; may be kept elsewhere, a running server does not need it
    DIR/server.crt, server.key  certificate and key of the server
    DIR/nodes/NAME.pub          public key of an admitted node
    DIR/nodes/NAME.key          its private key, only where it was made here; it belongs on the node
    DIR/nodes.toml              limits of each node (`fedrec_server.pki.node_limits`)

Only the owner can read the folder (0700) and the private keys (0600). `.crt` and `.pub` files are public.
"""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedrec import private_files
from fedrec.errors import InputError
from fedrec.transport.node_key import NodePublicKey, read_public
from fedrec_server.pki.certificates import day, hosts_of, issued_by, plain_host

SOON = timedelta(days=30)
"""Time before an expiry from which to warn."""


class Keyring:
    """The keys in the folder `path`, each read on access."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ca_certificate = path / "ca.crt"
        self.ca_key = path / "ca.key"
        self.server_certificate = path / "server.crt"
        self.server_key = path / "server.key"
        self.nodes_folder = path / "nodes"
        self.limits = path / "nodes.toml"

    @property
    def nodes(self) -> dict[str, tuple[Path | None, Path]]:
        """Name -> (private key, or None where the node made it; public key), sorted by name."""
        found = {}
        for public in sorted(self.nodes_folder.glob("*.pub")):
            private = public.with_suffix(".key")
            found[public.stem] = (private if private.exists() else None, public)
        return found

    @property
    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """A value that changes with any node's public key and with the limits.

        Raises: InputError where there is no folder.
        """
        if not self.nodes_folder.is_dir():
            raise InputError(f"{self.nodes_folder}: no such folder; it holds the nodes' public keys")
        files = [public for _, public in self.nodes.values()] + [self.limits] * self.limits.exists()
        found = [(file.name, file.stat()) for file in files]
        return tuple((name, status.st_ino, status.st_mtime_ns) for name, status in found)

    def public_keys(self) -> dict[str, NodePublicKey]:
        """Return name -> public key. Raises: InputError for a file without a key, or one key under two names."""
        keys: dict[str, NodePublicKey] = {}
        for name, (_, path) in self.nodes.items():
            key = read_public(path)
            for other, known in keys.items():
                if known == key:
                    raise InputError(
                        f"{path}: the same key as {other}.pub; each node needs its own, remove one of them"
                    )
            keys[name] = key
        return keys

    def authorities(self) -> list[x509.Certificate]:
        """Return the certificates that nodes trust, the newest first. Raises: InputError."""
        return self._certificates(self.ca_certificate)

    def server(self) -> x509.Certificate:
        """Return the server's certificate. Raises: InputError."""
        return self._certificates(self.server_certificate)[0]

    def issuer(self) -> x509.Certificate:
        """Return the authority that signed the server's certificate. Raises: InputError where `ca.crt` lacks it."""
        server = self.server()
        for authority in self.authorities():
            if issued_by(server, authority):
                return authority
        raise InputError(f"{self.server_certificate}: not signed by {self.ca_certificate}; {self._renew}")

    def private_key(self, path: Path) -> ec.EllipticCurvePrivateKey:
        """Read the key in `path`. Raises: InputError for a file that others can read, or that is no such key."""
        if not path.exists():
            raise InputError(f"{path}: missing; bring it back, or make new keys with `fedrec keys init`")
        try:
            key = serialization.load_pem_private_key(private_files.read(path), None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return key
        except (ValueError, TypeError, UnsupportedAlgorithm):
            pass
        raise InputError(f"{path}: no private key (PEM, elliptic curve, no passphrase); {self._renew}")

    def check(self, host: str | None = None, now: datetime | None = None) -> list[str]:
        """Check that a server can start with these keys.

        Args:
            host: name or address at which nodes reach the server; None to skip that check.
            now: time with a zone; the clock's time if left out.
        Returns: one warning for each certificate that expires soon.
        Raises: InputError for a file that is missing, open to others, expired, not yet valid or inconsistent, and for a
            host that the certificate does not name.
        """
        now = now or datetime.now(UTC)
        self.check_folder()
        server, key = self.server(), self.private_key(self.server_key)
        if server.public_key() != key.public_key():
            raise InputError(f"{self.server_key}: does not belong to {self.server_certificate}; {self._renew}")
        issuer = self.issuer()
        soon = [
            *self._check_time(self.ca_certificate, issuer, now, f"{self._renew} --authority"),
            *self._check_time(self.server_certificate, server, now, self._renew),
        ]
        if host is not None and not _any_address(host) and plain_host(host) not in hosts_of(server):
            raise InputError(
                f"{self.server_certificate}: good for {', '.join(hosts_of(server))}, not for {host}; "
                f"{self._renew} --host {host}"
            )
        self.public_keys()
        for private, _ in self.nodes.values():
            if private is not None:
                private_files.read(private)
        if self.ca_key.exists():
            self.private_key(self.ca_key)
        return soon

    @property
    def _renew(self) -> str:
        return f"fix it with `fedrec keys renew {self.path}`"

    def check_folder(self) -> None:
        """Check that the folder exists and is closed to others. Raises: InputError."""
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such folder; make the keys with `fedrec keys init {self.path}`")
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            raise InputError(f"{self.path}: open to others (mode {mode:04o}); `chmod 700 {self.path}`")

    def _check_time(self, path: Path, certificate: x509.Certificate, now: datetime, remedy: str) -> list[str]:
        if now >= certificate.not_valid_after_utc:
            raise InputError(f"{path}: expired on {day(certificate)}; {remedy}")
        if now < certificate.not_valid_before_utc:
            begin = certificate.not_valid_before_utc.date().isoformat()
            raise InputError(f"{path}: valid only from {begin} on; set this machine's clock, or {remedy}")
        left = certificate.not_valid_after_utc - now
        return [f"{path}: expires in {left.days} days, on {day(certificate)}; {remedy}"] if left < SOON else []

    def _certificates(self, path: Path) -> list[x509.Certificate]:
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: missing; make the keys with `fedrec keys init {self.path}`") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError:
            raise InputError(f"{path}: no certificate in PEM; bring back the file that was there") from None
        return found


def _any_address(host: str) -> bool:
    """Whether `host` means every address of the machine, and so not the one that nodes use."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False
