"""Keys of one round between two peers, and the texts that peers sign. Client and server share this file."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedrec.secagg import masks
from fedrec.secagg.fields import number, places
from fedrec.secagg.graph import Graph
from fedrec.secagg.outcome import Refused
from fedrec.secagg.peer_messages import Advertise, Survivors
from fedrec.secagg.round import Round


def agreed(own: X25519PrivateKey, other: bytes) -> bytes:
    """Return the shared secret. Raises: Refused for a key of small order."""
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise Refused("a neighbour's key that agrees on nothing") from None


def agrees(public: bytes) -> bool:
    """Return whether a key agrees on a secret: no for one of small order."""
    try:
        agreed(X25519PrivateKey.generate(), public)
    except Refused:
        return False
    return True


def pair_seed(this_round: Round, secret: bytes, one: int, other: int) -> bytes:
    """Return the seed of the mask of two neighbours: the lower one adds it, the higher one subtracts it."""
    return masks.hkdf(secret, masks.info("pair", this_round.digest, min(one, other), max(one, other)))


def own_seed(this_round: Round, secret: bytes, member: int) -> bytes:
    """Return the seed of the mask that a member adds alone."""
    return masks.hkdf(secret, masks.info("own", this_round.digest, member))


def channel(keys: Graph, secret: bytes, sender: int, receiver: int) -> bytes:
    """Return the AES-GCM key of the one message of shares from sender to receiver."""
    return masks.hkdf(secret, masks.info("channel", keys.digest, sender, receiver))


def commitment(this_round: Round, secret: bytes, member: int) -> bytes:
    """Return the hash by which the server recognises a member's reconstructed secret."""
    return hashlib.sha256(masks.info("commitment", this_round.digest, member) + secret).digest()


def advertised(keys: Graph, message: Advertise) -> bytes:
    """Return the text that a member signs when it advertises keys."""
    return masks.info("advertise", keys.digest, message.sender) + message.channel + message.mask


def confirmed(this_round: Round, survivors: Survivors) -> bytes:
    """Return the text that a member signs when it confirms the survivors."""
    return masks.info("survivors", this_round.digest) + hashlib.sha256(places(survivors.members)).digest()


def point(member: int) -> int:
    """Return the point of a member's shares."""
    return member + 1


def secret_number(secret: bytes) -> int:
    """Return a 256-bit secret as a number."""
    return int.from_bytes(secret, "big")


def secret_bytes(found: int) -> bytes | None:
    """Return the secret of a number; None where shares gave a number that is none."""
    return number(found, 32) if found >> 256 == 0 else None
