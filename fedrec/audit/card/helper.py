"""The helper that a run card names: the second party of a secure sum, by its public keys.

| field of `card.helper` | meaning |
|---|---|
| `key` | Ed25519: signs cosignatures and `proof`; a node's policy pins it |
| `seeds` | X25519 (hex): nodes seal the seeds of their masks for it |
| `proof` | signature (hex) of `key` on `seeds` |
| `address` | where the server reaches the helper; nothing that a node does depends on it |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedrec.audit.card import fields
from fedrec.audit.card.fields import FieldError
from fedrec.audit.log.keys import PREFIX, PublicKey, public_key
from fedrec.errors import InputError

MOST_ADDRESS = 300
"""Characters of an address."""


@dataclass(frozen=True)
class CardHelper:
    """A helper's public parts.

    Attributes:
        key: Ed25519.
        seeds: X25519, 32 bytes.
        proof: signature of `key` on `seeds`, 64 bytes.
        address: where the server reaches it.
    """

    key: PublicKey
    seeds: bytes
    proof: bytes
    address: str = ""

    @property
    def vouched(self) -> bool:
        """Whether `key` has signed `seeds`."""
        return len(self.seeds) == 32 and self.key.verifies(self.proof, seeds_text(self.seeds))


def seeds_text(seeds: bytes) -> bytes:
    """Return what a helper's Ed25519 key signs to vouch for its X25519 key."""
    return b"fedrec helper seeds key v1\n" + seeds


def read_helper(values: Mapping[str, Any]) -> CardHelper | None:
    """Read the field `helper` of a card; None where there is none.

    Raises: FieldError for one that no helper signed, or an address that is no plain text.
    """
    if values.get("helper") is None:
        return None
    given = fields.table(values, "helper")
    text, address = fields.text(given, "key", 60), fields.text(given, "address", MOST_ADDRESS)
    seeds, proof = bytes.fromhex(fields.digest(given, "seeds")), _hex(fields.text(given, "proof", 128))
    try:
        key = public_key(text) if text.startswith(PREFIX) else None
    except InputError:
        key = None
    if key is None or not address.isprintable():
        raise FieldError("'helper' has no usable key or address")
    found = CardHelper(key, seeds, proof, address)
    if not found.vouched:
        raise FieldError("'helper': its key has not signed the key for seeds")
    return found


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FieldError("'proof' is no hexadecimal text") from None
