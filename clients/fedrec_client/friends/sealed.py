"""A share as a message: signed by the device that paid for it, sealed for one friend (HPKE, RFC 9180, base mode).

| bytes | content |
|---|---|
| `fedrec-share/1` and a newline | the format |
| HPKE of the rest, bound to the friend's address: | X25519, HKDF-SHA256, AES-256-GCM |
| 64 | the sender's address |
| 64 | the sender's Ed25519 signature on the format, the friend's address and the share |
| one line of JSON | the share's terms and the time of its charge |
| 8 x width | the noisy vector, float64, little endian |

The signature contains the friend's address, so a friend cannot pass a share on as if it had been sent. The carrier sees
the length alone, which the width of the model fixes.
"""

import json
from dataclasses import asdict

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedrec.errors import InputError, VerificationError
from fedrec.social.shares import WIDEST, Share, ShareTerms
from fedrec_client.friends.keys import KEY, Address, FriendKeys

FORMAT = b"fedrec-share/1\n"
MOST = 8 * WIDEST + 4096
"""Bytes, above every message."""
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_SIGNATURE = 64


def encode(share: Share) -> bytes:
    """Return the bytes of a share: the same ones for all friends."""
    about = json.dumps(asdict(share.terms) | {"made": share.made}, sort_keys=True)
    return about.encode() + b"\n" + share.vector.astype("<f8").tobytes()


def decode(content: bytes) -> Share:
    """Read a share. Raises: VerificationError for bytes that are none."""
    head, _, numbers = content.partition(b"\n")
    try:
        about = json.loads(head)
        made = about.pop("made")
        terms = ShareTerms(**about)
        right = isinstance(made, int) and isinstance(terms.width, int) and isinstance(terms.space, str)
        vector = np.frombuffer(numbers, "<f8").astype(np.float64)
        if not right or len(vector) != terms.width or len(bytes.fromhex(terms.space)) != KEY:
            raise ValueError("no share")
    except (ValueError, TypeError, AttributeError, KeyError, InputError, RecursionError):
        raise VerificationError("the message holds no share with terms that this version knows") from None
    return Share(terms, made, vector)


def seal(content: bytes, keys: FriendKeys, to: Address) -> bytes:
    """Sign and seal an encoded share for one friend."""
    signature = Ed25519PrivateKey.from_private_bytes(keys.sign).sign(_signed(to, content))
    inner = keys.address.content + signature + content
    return FORMAT + _SUITE.encrypt(inner, X25519PublicKey.from_public_bytes(to.seal), FORMAT + to.content)


def opened(message: bytes, keys: FriendKeys) -> tuple[Address, bytes]:
    """Open a message for this device.

    Returns:
        The sender, and the encoded share that the sender signed for this device.

    Raises:
        VerificationError: for a message of another format, one that was changed or is for another device, and one
            without its sender's signature.
    """
    if not message.startswith(FORMAT):
        raise VerificationError("no share of a friend: the file does not begin as one")
    try:
        key = X25519PrivateKey.from_private_bytes(keys.seal)
        inner = _SUITE.decrypt(message[len(FORMAT) :], key, FORMAT + keys.address.content)
    except (InvalidTag, ValueError):
        raise VerificationError("the share was changed on its way, or is sealed for another device") from None
    sender, content = Address(inner[:KEY], inner[KEY : 2 * KEY]), inner[2 * KEY + _SIGNATURE :]
    try:
        signature = inner[2 * KEY : 2 * KEY + _SIGNATURE]
        Ed25519PublicKey.from_public_bytes(sender.sign).verify(signature, _signed(keys.address, content))
    except (InvalidSignature, ValueError):
        raise VerificationError("the share has no signature of its sender for this device") from None
    return sender, content


def _signed(to: Address, content: bytes) -> bytes:
    return FORMAT + to.content + content
