"""The roster: long-term keys of all members of a run, under one root that the run card contains.

A member is known by its place in the roster. The root is that of an RFC 6962 tree over the keys, so that a member or
an auditor can check a place with a short proof. A server that adds keys has another root, and a run card with that
root is public: what remains are members that were admitted and are corrupt (`Assumption.corrupt`).
"""

from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedrec.audit.log import merkle
from fedrec.errors import InputError

KEY, SIGNATURE = 32, 64
"""Bytes of an Ed25519 key and signature."""
MOST = 1 << 24


@dataclass(frozen=True)
class Roster:
    """The members of a run.

    Attributes:
        keys: Ed25519 public keys, 32 bytes each; a member's place is its number here.
    """

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.keys) <= MOST or len(set(self.keys)) != len(self.keys):
            raise InputError(f"a roster of {len(self.keys)} keys: from 1 on, and no key twice")
        if any(len(key) != KEY for key in self.keys):
            raise InputError(f"a roster's keys have {KEY} bytes")

    @cached_property
    def root(self) -> bytes:
        """The root over the keys, 32 bytes."""
        return merkle.root([merkle.leaf_hash(key) for key in self.keys])

    def verifies(self, member: int, signature: bytes, message: bytes) -> bool:
        """Return whether the signature is that of a member on the message; no for a place outside the roster."""
        if not 0 <= member < len(self.keys):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[member]).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
