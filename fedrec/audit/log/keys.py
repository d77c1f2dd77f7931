"""Keys that sign ledgers: Ed25519, kept in files that only their owner can read.

Source: `cryptography`, which encrypts a key under a passphrase by PKCS 8. A private key is a PEM file of mode 0600. A
file that others can read is refused, since they may have copied it. A public key is a PEM file, or the text
`ed25519:BASE64` of its 32 bytes, which fits on one line of a command or a mail.
"""

import base64
import binascii
import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedrec import private_files
from fedrec.errors import InputError
from fedrec.screen import say

PREFIX = "ed25519:"
KEY_VARIABLE = "FEDREC_KEY"
PASSPHRASE_VARIABLE = "FEDREC_KEY_PASSPHRASE"
LARGEST = 1 << 16
"""Most bytes of a key's file."""
MARKS_VARIABLE = "FEDREC_KEY_MARKS"


@dataclass(frozen=True)
class PublicKey:
    """A public key by its 32 bytes."""

    raw: bytes

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    @property
    def text(self) -> str:
        """The key on one line: `ed25519:BASE64`."""
        return PREFIX + base64.b64encode(self.raw).decode("ascii")

    @property
    def id(self) -> str:
        """A short name for the key: the first 16 hexadecimal digits of its SHA-256. A hint, never a proof."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's signature of `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as a PEM file's content."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class SigningKey:
    """A private key in memory.

    Args:
        key: the key.
        marks: the folder of its high-water marks (`fedrec.audit.log.marks`); None without marks.
    """

    def __init__(self, key: Ed25519PrivateKey, marks: Path | None = None) -> None:
        self._key, self.marks = key, marks
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = PublicKey(raw)

    @classmethod
    def generate(cls, marks: Path | None = None) -> "SigningKey":
        """Make a fresh key from the operating system's random generator."""
        return cls(Ed25519PrivateKey.generate(), marks)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes; the same for the same message."""
        return self._key.sign(message)

    def derived(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes that follow from this key (HKDF-SHA256), the same for the same purpose."""
        kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose)
        return kdf.derive(self._key.private_bytes_raw())

    def pem(self, passphrase: str | None) -> bytes:
        """Return the key as a PEM file's content, encrypted if there is a passphrase."""
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            how = serialization.BestAvailableEncryption(passphrase.encode("utf-8"))
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def new_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """Make a key in the new file `path`, mode 0600 from its first byte on.

    Raises:
        InputError: when the file exists, or cannot be written.
    """
    key = SigningKey.generate(marks_folder(path))
    private_files.create(path, key.pem(passphrase))
    return key


def load_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """Read the private key in `path`.

    Args:
        path: the file.
        passphrase: None takes it from FEDREC_KEY_PASSPHRASE, or asks at a terminal.

    Raises:
        InputError: for a file that others can read, that is no Ed25519 key, or that the passphrase does not open.
    """
    content = private_files.read(path)
    encrypted = b"ENCRYPTED" in content.split(b"\n", 1)[0]
    if encrypted and not passphrase:
        passphrase = os.environ.get(PASSPHRASE_VARIABLE) or _asked(path)
    try:
        key = serialization.load_pem_private_key(
            content, passphrase.encode("utf-8") if encrypted and passphrase else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "the passphrase does not open it" if encrypted else "no private key in PEM"
        raise InputError(f"{path}: {what}; make one with `fedrec audit keys new FILE`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: not an Ed25519 key; make one with `fedrec audit keys new FILE`")
    return SigningKey(key, marks_folder(path))


def marks_folder(key: Path | None = None) -> Path:
    """Return the folder of a key's marks: FEDREC_KEY_MARKS, else a folder next to the key's file.

    Args:
        key: the file; None for the key of this user.
    """
    named = os.environ.get(MARKS_VARIABLE)
    path = (key or default_path()).absolute()
    return Path(named) if named else path.with_name(f"{path.name}.signed")


def default_path() -> Path:
    """Return the path of this user's key: FEDREC_KEY, or `fedrec/ledger-key.pem` in the folder for settings."""
    named = os.environ.get(KEY_VARIABLE)
    if named:
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "fedrec" / "ledger-key.pem"


def default_key() -> SigningKey:
    """Return the key of this user; it is made on first use, with one line on standard error."""
    path = default_path()
    if path.exists():
        return load_key(path)
    try:
        key = new_key(path)
    except InputError:
        if path.exists():  # another process made it at the same moment
            return load_key(path)
        raise
    say(
        f"Made a key to sign privacy ledgers with: {path}; give auditors its public part: {key.public.text}",
        err=True,
    )
    return key


def public_key(text: str) -> PublicKey:
    """Read a public key: `text` is the key itself (`ed25519:BASE64`), or the name of a file (PEM, or such a text).

    Raises:
        InputError: for any other content, and for a private key, which an auditor should never see.
    """
    if text.startswith(PREFIX):
        return _parsed(text, text)
    try:
        with Path(text).open("rb") as file:
            content = file.read(LARGEST)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file's name"
        raise InputError(f"--key {text}: cannot be read ({reason}); give a PEM file or ed25519:BASE64") from None
    return public_key_in(content, text)


def public_key_in(content: bytes, where: str) -> PublicKey:
    """Read the public key in a file's content.

    Raises:
        InputError: as `public_key`.
    """
    if content.startswith(PREFIX.encode("ascii")):
        return _parsed(content.decode("ascii", "replace").strip(), where)
    if b"PRIVATE KEY" in content:
        raise InputError(f"--key {where}: is a private key; give its public part (`fedrec audit keys show {where}`)")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"--key {where}: no public key in PEM; give a PEM file or ed25519:BASE64") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"--key {where}: not an Ed25519 key")
    return PublicKey(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _parsed(text: str, where: str) -> PublicKey:
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        if len(raw) != 32 or PublicKey(raw).text != text:
            raise ValueError
    except (ValueError, binascii.Error):
        raise InputError(f"--key {where}: no public key; it must be ed25519: and the base64 of 32 bytes") from None
    return PublicKey(raw)


def _asked(path: Path) -> str:
    if not sys.stdin.isatty():
        raise InputError(f"{path}: has a passphrase; put it into {PASSPHRASE_VARIABLE}, there is no terminal to ask at")
    from getpass import getpass

    return getpass(f"Passphrase of {path}: ", stream=sys.stderr)
