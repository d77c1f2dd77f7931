"""Sealing of rows: AES-256-GCM under a data key, which a key made from the master key wraps.

| what | how |
|---|---|
| nonce | 96 random bits a seal: no counter that a restored backup would set back |
| limit | 2^31 seals a data key, half of NIST SP 800-38D, 8.3, since a restored copy counts again |
| associated data | layout version, store's id, table, row id: no row opens in another place, store or version |
| size | content is padded to a bucket |
| set of rows | sum of keyed digests modulo 2^256, sealed in the head: no row can be left out, doubled or put back |
| keys | HKDF-SHA256 with the store's id as salt: one master key may serve several stores |
"""

import hashlib
import os
import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedrec.errors import InputError
from fedrec_client.store.damage import Damage

KEY = 32
"""Bytes of a master key and of a data key."""
MOST_SEALS = 1 << 31
"""Seals under one data key; the key is replaced in time, at the latest by `rotate_data_key`."""
OVERHEAD = 28
"""Bytes of a nonce and a tag."""
MODULUS = 1 << 256
BUCKETS: dict[str, Sequence[int]] = {
    "rows": (128, 512, 2048),
    "states": tuple(1 << power for power in range(10, 25)),
    "head": (256,),
}
"""Table -> sizes in bytes to which a row is padded, before nonce and tag."""
_LENGTH = struct.Struct("<I")


class Sealer:
    """Seals and opens the rows of one store.

    Args:
        data_key: (32,) bytes.
        store: the store's id, (16,) bytes.
        version: of the layout.
    """

    def __init__(self, data_key: bytes, store: bytes, version: int) -> None:
        self._cipher = AESGCM(_derived(data_key, store, b"fedrec store: rows"))
        self._set_key = _derived(data_key, store, b"fedrec store: set of rows")
        self._place = b"fedrec store" + struct.pack("<I", version) + store

    def seal(self, table: str, row: int, content: bytes) -> bytes:
        """Return nonce, ciphertext and tag of `content`, padded to a bucket of the table.

        Raises:
            InputError: for content above the largest bucket.
        """
        padded = _padded(content, BUCKETS[table])
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, padded, self._bound(table, row))

    def open(self, table: str, row: int, box: bytes) -> bytes:
        """Return the content of a sealed row.

        Raises:
            Damage: where it was changed, or belongs to another place, store or key.
        """
        try:
            padded = self._cipher.decrypt(box[:12], box[12:], self._bound(table, row))
        except (InvalidTag, ValueError, TypeError):
            raise Damage("a sealed row was changed, or belongs elsewhere") from None
        (length,) = _LENGTH.unpack_from(padded)
        return padded[_LENGTH.size : _LENGTH.size + length]

    def digest(self, table: str, row: int, box: bytes) -> int:
        """Return the number that a row adds to the sum of its table, below `MODULUS`."""
        made = hashlib.blake2b(self._bound(table, row) + box, key=self._set_key, digest_size=32)
        return int.from_bytes(made.digest(), "little")

    def _bound(self, table: str, row: int) -> bytes:
        return self._place + table.encode() + struct.pack("<q", row)


def wrap(data_key: bytes, master: bytes, place: bytes, store: bytes) -> bytes:
    """Seal a data key under a master key.

    Args:
        data_key: (32,) bytes.
        master: (32,) bytes.
        place: what the wrapped key is bound to.
        store: the store's id, (16,) bytes.
    """
    nonce = os.urandom(12)
    return nonce + AESGCM(_derived(master, store, b"fedrec store: data key")).encrypt(nonce, data_key, place)


def unwrap(wrapped: bytes, master: bytes, place: bytes, store: bytes) -> bytes | None:
    """Return the data key that `wrap` sealed; None where key or place is another one."""
    try:
        return AESGCM(_derived(master, store, b"fedrec store: data key")).decrypt(wrapped[:12], wrapped[12:], place)
    except (InvalidTag, ValueError):
        return None


def _derived(key: bytes, store: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY, salt=store, info=purpose).derive(key)


def _padded(content: bytes, buckets: Sequence[int]) -> bytes:
    needed = _LENGTH.size + len(content)
    size = next((bucket for bucket in buckets if bucket >= needed), None)
    if size is None:
        raise InputError(f"{len(content):,} bytes are too many for one value; at most {buckets[-1] - _LENGTH.size:,}")
    return (_LENGTH.pack(len(content)) + content).ljust(size, b"\0")
