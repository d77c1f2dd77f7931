"""The keys of a folder of releases, as its root names them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key, Signature, Signer, SSlibKey
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from fedrec.audit.log.keys import PublicKey, SigningKey, public_key
from fedrec.errors import InputError
from fedrec.releases.record import LEDGER_KEYS

ONLINE = (Targets.type, Snapshot.type, Timestamp.type)
"""Roles of the release key; the fourth, root, has the root keys."""


class KeySigner(Signer):
    """A signing key of fedrec as a signer of TUF."""

    def __init__(self, key: SigningKey) -> None:
        self._own, self._public = key, tuf_key(key.public)

    @property
    def public_key(self) -> Key:
        return self._public

    def sign(self, payload: bytes) -> Signature:
        return Signature(self._public.keyid, self._own.sign(payload).hex())

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "KeySigner":
        raise InputError("keys of releases are files; make one with `fedrec audit keys new FILE`")


def tuf_key(key: PublicKey) -> SSlibKey:
    """Return a public key in the form of TUF."""
    return SSlibKey(key.id, "ed25519", "ed25519", {"public": key.raw.hex()})


@dataclass(frozen=True)
class RoleKeys:
    """The keys of all roles.

    Attributes:
        roots: of the root role.
        threshold: how many of them must sign a later root.
        online: the release key, of the other roles.
        ledgers: keys of the ledgers whose models a release may have.
    """

    roots: tuple[PublicKey, ...]
    threshold: int
    online: PublicKey
    ledgers: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(set(self.roots)):
            raise InputError(
                f"--threshold {self.threshold}: must be 1 to {len(set(self.roots))}, the number of root keys"
            )

    @classmethod
    def of(cls, root: Root) -> "RoleKeys":
        """Read the keys that a root names."""
        roots = tuple(_key(root, keyid) for keyid in root.roles[Root.type].keyids)
        ledgers = tuple(public_key(text) for text in root.unrecognized_fields[LEDGER_KEYS])
        return cls(roots, root.roles[Root.type].threshold, _key(root, root.roles[Targets.type].keyids[0]), ledgers)

    def root(self, version: int, until: datetime) -> Root:
        """Make an unsigned root."""
        fields = {LEDGER_KEYS: [key.text for key in self.ledgers]}
        made = Root(version, expires=until, consistent_snapshot=True, unrecognized_fields=fields)
        made.roles[Root.type].threshold = self.threshold
        for key in self.roots:
            made.add_key(tuf_key(key), Root.type)
        for role in ONLINE:
            made.add_key(tuf_key(self.online), role)
        return made


def _key(root: Root, keyid: str) -> PublicKey:
    return PublicKey(bytes.fromhex(root.keys[keyid].keyval["public"]))
