"""A helper's keys: one private file, and one small public file for the server's operator and the nodes'.

    FOLDER/helper.key           Ed25519 (PEM, 0600): cosigns ledgers. The X25519 key that opens seeds is derived from it
    FOLDER/helper.pub           the public parts, as TOML: both keys, and the authority of its TLS certificate
    FOLDER/tls/ca.key, ca.crt   the helper's own authority
    FOLDER/tls/server.key, .crt certificate and key for TLS, made anew before they expire

The keys never change: another key is another helper, which no node has pinned.
"""

import base64
import binascii
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedrec import private_files
from fedrec.audit.card.fields import FieldError, text
from fedrec.audit.card.helper import CardHelper, seeds_text
from fedrec.audit.log.keys import PREFIX, load_key, new_key, public_key
from fedrec.durable import replace, sync
from fedrec.errors import InputError
from fedrec_server.pki import certificates
from fedrec_server.pki.certificates import Issued
from fedrec_server.pki.keyring import SOON, Keyring

PRIVATE, PUBLIC = "helper.key", "helper.pub"
SEEDS = "x25519:"
MOST_PUBLIC = 1 << 15
"""Bytes of a public file."""
DAYS = 365
"""Days that a certificate for TLS is valid."""
_INFO = b"fedrec/helper seeds key/v1"


@dataclass(frozen=True)
class HelperPublic:
    """The public parts of a helper.

    Attributes:
        helper: its keys, without an address.
        authority: certificate (PEM) of the authority that signs its TLS certificate.
    """

    helper: CardHelper
    authority: str

    @property
    def seeds(self) -> str:
        """The key for seeds on one line: `x25519:BASE64`."""
        return SEEDS + base64.b64encode(self.helper.seeds).decode("ascii")

    def text(self) -> str:
        """Return the content of a public file."""
        return (
            "# Public parts of a fedrec helper. Nodes pin `key` in their policy, under server.helpers.\n"
            f'key = "{self.helper.key.text}"\nseeds = "{self.seeds}"\nproof = "{self.helper.proof.hex()}"\n'
            f'authority = """\n{self.authority}"""\n'
        )


class HelperKeys:
    """The keys in a helper's folder.

    Attributes:
        signing: signs cosignatures.
        seeds: opens seeds.
        public: the public parts.
        tls: the certificates, as the folder of a server's keys.
    """

    def __init__(self, folder: Path) -> None:
        self.signing = load_key(folder / PRIVATE)
        self.seeds = X25519PrivateKey.from_private_bytes(self.signing.derived(_INFO))
        self.tls = Keyring(folder / "tls")
        raw = self.seeds.public_key().public_bytes_raw()
        helper = CardHelper(self.signing.public, raw, self.signing.sign(seeds_text(raw)))
        self.public = HelperPublic(helper, certificates.pem(*self.tls.authorities()).decode("ascii"))

    @classmethod
    def made(cls, folder: Path, now: datetime | None = None) -> tuple["HelperKeys", bool]:
        """Return the keys in a folder, and whether they were made now, on first use.

        Raises: InputError for a file that is damaged or open to others.
        """
        fresh = not (folder / PRIVATE).exists()
        tls = Keyring(folder / "tls")
        if not tls.ca_certificate.exists():
            if not fresh:
                raise InputError(f"{tls.ca_certificate}: missing; bring it back, or make another helper")
            authority = certificates.new_authority(now or datetime.now(UTC))
            _write_issued(tls.ca_certificate, tls.ca_key, authority)
        if fresh:  # last, so that a crash before leaves no helper
            new_key(folder / PRIVATE)
        found = cls(folder)
        if not (folder / PUBLIC).exists():
            replace(folder / PUBLIC, found.public.text().encode())
            sync(folder)
        return found, fresh

    def certify(self, hosts: Sequence[str], now: datetime | None = None) -> None:
        """Make a certificate for TLS, where the one that is there lacks a host or expires soon.

        Args:
            hosts: names and addresses at which the server reaches the helper, besides those of the last certificate
                and the loopback.
            now: time with a zone; the clock's if left out.
        Raises: InputError for a host that cannot be.
        """
        now, wanted = now or datetime.now(UTC), certificates.all_hosts(hosts)
        if self.tls.server_certificate.exists() and self.tls.server_key.exists():
            there = self.tls.server()
            wanted = certificates.all_hosts([*certificates.hosts_of(there), *hosts])
            good = set(wanted) <= set(certificates.hosts_of(there)) and now + SOON < there.not_valid_after_utc
            if good and there.public_key() == self.tls.private_key(self.tls.server_key).public_key():
                return
        issuer = Issued(self.tls.authorities()[0], self.tls.private_key(self.tls.ca_key))
        made = certificates.new_server(issuer, wanted, now, DAYS)
        private_files.exchange(self.tls.server_key, made.key_pem())
        replace(self.tls.server_certificate, certificates.pem(made.certificate))
        sync(self.tls.path)


def read_public(path: Path) -> HelperPublic:
    """Read a helper's public file. Raises: InputError in one line for any other content."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_PUBLIC + 1)
        values = tomllib.loads(content.decode("utf-8"))
        key, seeds = text(values, "key"), text(values, "seeds")
        proof, authority = bytes.fromhex(text(values, "proof")), text(values, "authority", MOST_PUBLIC)
        raw = base64.b64decode(seeds.removeprefix(SEEDS), validate=True)
        if len(content) > MOST_PUBLIC or not (key.startswith(PREFIX) and seeds.startswith(SEEDS)):
            raise ValueError
        helper = CardHelper(public_key(key), raw, proof)
        if not helper.vouched:
            raise ValueError
        x509.load_pem_x509_certificates(authority.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the {PUBLIC} of a helper") from None
    except (ValueError, FieldError, InputError, binascii.Error):
        raise InputError(
            f"{path}: no public file of a helper, or it was changed; get {PUBLIC} anew from its operator"
        ) from None
    return HelperPublic(helper, authority)


def _write_issued(certificate: Path, key: Path, made: Issued) -> None:
    certificate.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_files.exchange(key, made.key_pem())
    replace(certificate, certificates.pem(made.certificate))
    sync(certificate.parent)
