"""Keys that authenticate nodes to the server: ECDSA on P-384, as Flower's node authentication reads them.

Source: `cryptography`. The private key is an OpenSSH file (`BEGIN OPENSSH PRIVATE KEY`) of mode 0600 and stays on the
node; the public key is one line (`ecdsa-sha2-nistp384 BASE64`), and the server admits nodes with a registered line.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedrec import private_files
from fedrec.errors import InputError

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True)
class NodePublicKey:
    """A node's public key.

    Attributes:
        line: `ecdsa-sha2-nistp384 BASE64`, without a comment, so that equal keys have equal lines.
    """

    line: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:...` as printed by `ssh-keygen -l`: short enough to compare on the telephone."""
        digest = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    @property
    def pem(self) -> bytes:
        """The key as Flower sends it: a PEM file's content."""
        key = serialization.load_ssh_public_key(self.line.encode("ascii"))
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's on `message`; False, too, where the line is no node's key."""
        try:
            key = serialization.load_ssh_public_key(self.line.encode("ascii"))
            if not isinstance(key, ec.EllipticCurvePublicKey) or _public(key).line != self.line:
                return False
            key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return isinstance(key.curve, CURVES)


class NodeKey:
    """A node's private key in memory, to sign with.

    Attributes:
        public: its public part.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key, self.public = key, _public(key.public_key())

    def masks_key(self) -> Ed25519PrivateKey:
        """Return the key that signs in secure aggregation, derived from this one (HKDF-SHA256), always the same."""
        size = (self._key.key_size + 7) // 8
        secret = self._key.private_numbers().private_value.to_bytes(size, "big")
        seed = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"fedrec/masks key/v1").derive(secret)
        return Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, message: bytes) -> bytes:
        """Return a signature of ECDSA with SHA-384, another one each time."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA384()))


def new_node_key(path: Path, public: Path | None = None) -> NodePublicKey:
    """Make a key in the new file `path`, and its public part in `public` (`path` with `.pub` after it if left out).

    Raises:
        InputError: when either is there already, or cannot be written.
    """
    public = public or path.with_name(f"{path.name}.pub")
    if public.exists():
        raise InputError(f"{public}: exists already; a key is never overwritten, choose another file")
    key = ec.generate_private_key(ec.SECP384R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    private_files.create(path, content)
    made = _public(key.public_key())
    write_public(public, made)
    return made


def write_public(path: Path, key: NodePublicKey) -> None:
    """Write `key` to the new file `path`, readable by all.

    Raises:
        InputError: when the file exists or cannot be written.
    """
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(key.line + "\n")
        path.chmod(0o644)
    except FileExistsError:
        raise InputError(f"{path}: exists already; a key is never overwritten, choose another file") from None
    except OSError as error:
        raise InputError(f"{path}: the key cannot be written ({error.strerror}); choose another file") from None


def public_part(path: Path) -> NodePublicKey:
    """Return the public part of the private key in `path`.

    Raises:
        InputError: as `load_node_key`.
    """
    return load_node_key(path).public


def load_node_key(path: Path) -> NodeKey:
    """Read the private key in `path`.

    Raises:
        InputError: for a file that others can read, another kind of key, or a key with a passphrase.
    """
    content = private_files.read(path)
    try:
        key = serialization.load_ssh_private_key(content, None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
            return NodeKey(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise InputError(
        f"{path}: not a node's private key (OpenSSH, ECDSA, no passphrase); make one with `fedrec client key FILE`"
    )


def read_public(path: Path) -> NodePublicKey:
    """Read the public key in `path`.

    Raises:
        InputError: for any other content, and for a private key, which should stay on its node.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the .pub file of a node") from None
    if b"PRIVATE KEY" in content:
        raise InputError(f"{path}: is a private key, which stays on its node; give its .pub file")
    try:
        key = serialization.load_ssh_public_key(content)
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
            return _public(key)
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise InputError(f"{path}: not a node's public key (`ecdsa-sha2-nistp384 ...`); `fedrec client key FILE` makes one")


def from_pem(content: bytes) -> NodePublicKey | None:
    """Read the key in PEM; None for anything that is not a node's public key."""
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return _public(key) if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES) else None


def _public(key: ec.EllipticCurvePublicKey) -> NodePublicKey:
    content = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return NodePublicKey(content.decode("ascii"))
