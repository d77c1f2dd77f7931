"""The certificates of a deployment: one authority of its own, and the server's certificate that it signs.

Source: RFC 5280, by `cryptography`: ECDSA on P-384 with SHA-384; the authority may sign servers and nothing below them;
the server's certificate names its hosts (SAN), its purpose (serverAuth) and its issuer's key.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedrec.errors import InputError

ALWAYS = ("localhost", "127.0.0.1", "::1")
"""Hosts that every server's certificate names."""

AUTHORITY_DAYS = 3650
CLOCKS_DIFFER = timedelta(hours=1)
"""Time before its creation from which a certificate is valid, for nodes with a slow clock."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Issued:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def key_pem(self) -> bytes:
        """The private key: PEM, PKCS 8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def new_authority(now: datetime, days: int = AUTHORITY_DAYS) -> Issued:
    """Make an authority that signs itself, under a unique name."""
    key = ec.generate_private_key(ec.SECP384R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"fedrec CA {identifier.digest.hex()[:16]}")
    certificate = (
        _builder(name, name, key.public_key(), now, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return Issued(certificate, key)


def new_server(authority: Issued, hosts: Sequence[str], now: datetime, days: int) -> Issued:
    """Make a server's certificate, with a key of its own, never valid beyond the authority.

    Args:
        authority: the authority that signs.
        hosts: names and addresses of the server.
        now: time of the begin, with a zone.
        days: validity in days.
    Raises: InputError for a host that is neither a name nor an address, or an authority that has expired.
    """
    issuer = authority.certificate
    end = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    if end <= now:
        raise InputError(f"the authority expired on {day(issuer)}; `fedrec keys renew DIR --authority` makes a new one")
    key = ec.generate_private_key(ec.SECP384R1())
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(_name("fedrec server"), issuer.subject, key.public_key(), now, end)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA384())
    )
    return Issued(certificate, key)


def pem(*certificates: x509.Certificate) -> bytes:
    """Return the certificates as the content of one PEM file."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def all_hosts(hosts: Iterable[str]) -> list[str]:
    """Return `hosts` and those of every certificate, without duplicates, addresses in their usual form.

    Raises: InputError for a host that is neither a name nor an address.
    """
    return list(dict.fromkeys(_text(_host(host)) for host in [*ALWAYS, *hosts]))


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the hosts that a server's certificate names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_text(name) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether `authority` signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def day(certificate: x509.Certificate) -> str:
    """Return the day on which a certificate expires, in UTC: `2027-01-31`."""
    return certificate.not_valid_after_utc.astimezone(UTC).date().isoformat()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def plain_host(host: str) -> str:
    """Return a host as certificates spell it: an address without brackets, a name in lower case without the last dot.

    >>> plain_host("[2001:DB8::0]"), plain_host("Fed.Example.ORG.")
    ('2001:db8::', 'fed.example.org')
    """
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.lower().rstrip(".")


def _host(host: str) -> x509.DNSName | x509.IPAddress:
    name = plain_host(host)
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    labels = name.split(".")
    if len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit():
        return x509.DNSName(name)
    raise InputError(f"--host {host}: neither a host's name nor an IP address; give one without port and scheme")


def _text(name: x509.DNSName | x509.IPAddress) -> str:
    return str(name.value)
