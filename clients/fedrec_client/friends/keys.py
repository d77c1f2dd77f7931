"""A device's keys for friends, and the address that it gives them: a key to seal for it, and one of its signatures."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedrec.errors import InputError
from fedrec.secagg.peer_keys import agrees

PREFIX = "fedrec-friend:"
KEY = 32
"""Bytes of a key."""


@dataclass(frozen=True)
class Address:
    """The public keys of a device. Attributes: seal: X25519; sign: Ed25519."""

    seal: bytes
    sign: bytes

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address. Raises: InputError for text that is none, and for a key that seals for nobody."""
        try:
            keys = base64.b64decode(text.strip().removeprefix(PREFIX).encode(), b"-_", validate=True)
        except ValueError:
            keys = b""
        if not text.strip().startswith(PREFIX) or len(keys) != 2 * KEY or not agrees(keys[:KEY]):
            raise InputError(
                f"a friend's address is `{PREFIX}` and 88 characters; the friend's `fedrec client friends address` "
                "prints it"
            )
        return cls(keys[:KEY], keys[KEY:])

    @property
    def content(self) -> bytes:
        """Both keys."""
        return self.seal + self.sign

    @property
    def text(self) -> str:
        """The address as a person sends it to a friend."""
        return PREFIX + base64.urlsafe_b64encode(self.content).decode()

    @property
    def short(self) -> str:
        """The start of its SHA-256, for messages."""
        return hashlib.sha256(self.content).hexdigest()[:12]


@dataclass(frozen=True, repr=False)
class FriendKeys:
    """The private keys. Attributes: seal: X25519; sign: Ed25519."""

    seal: bytes
    sign: bytes

    @classmethod
    def fresh(cls) -> "FriendKeys":
        """Make new keys."""
        return cls(X25519PrivateKey.generate().private_bytes_raw(), Ed25519PrivateKey.generate().private_bytes_raw())

    @cached_property
    def address(self) -> Address:
        """The public side."""
        return Address(
            X25519PrivateKey.from_private_bytes(self.seal).public_key().public_bytes_raw(),
            Ed25519PrivateKey.from_private_bytes(self.sign).public_key().public_bytes_raw(),
        )
