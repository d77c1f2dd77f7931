"""Fingerprint of a split, by which two runs with the same users, events and held-out items are recognised.

A plain hash of all histories would reveal an unknown event to an attacker with all the others, who tries all values. So
the fingerprint is an HMAC-SHA256 under a secret of this user. The secret is stored next to the key that signs ledgers,
and in no run. Fingerprints of two users, or of two machines, cannot be compared.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from fedrec import private_files
from fedrec.audit.log.keys import default_path
from fedrec.data.splits import Split
from fedrec.errors import InputError

FILE, BYTES = "fingerprint-secret", 32
_PATIENCE = 2.0
"""Seconds that another process may take to write the secret."""


def fingerprint(split: Split) -> str:
    """Return `ID:HMAC` of the split: training, known, held-out and ranked items. ID names the secret."""
    secret = own_secret()
    found = hmac.new(secret, digestmod=hashlib.sha256)
    for part in _parts(split):
        found.update(part)
    return f"{_id(secret)}:{found.hexdigest()}"


def same(known: str, split: Split) -> bool | None:
    """Whether `known` is the fingerprint of a split; None where it was made with another secret."""
    own = fingerprint(split)
    if ":" not in known:  # of an older version, which used no secret; computed here and written nowhere
        return hashlib.sha256(b"".join(_parts(split))).hexdigest() == known
    return known == own if comparable(known, own) else None


def comparable(first: str, second: str) -> bool:
    """Whether two fingerprints were made with one secret, so that they differ only where the data do."""
    return first.partition(":")[0] == second.partition(":")[0] and ":" in first and ":" in second


def own_secret() -> bytes:
    """Return the secret of this user, made on first use, mode 0600. Raises: InputError when damaged or readable."""
    path = secret_path()
    if not path.exists():
        try:
            private_files.create(path, secrets.token_bytes(BYTES))
        except InputError:
            if not path.exists():  # else another process made it at the same moment
                raise
    deadline = time.monotonic() + _PATIENCE
    while len(secret := private_files.read(path)) != BYTES:
        if time.monotonic() > deadline:
            raise InputError(f"{path}: holds {len(secret)} bytes instead of {BYTES}; remove it, a new one is made")
        time.sleep(0.01)
    return secret


def secret_path() -> Path:
    """Return the path of the secret, next to the key that signs ledgers."""
    return default_path().with_name(FILE)


def _parts(split: Split) -> Iterator[bytes]:
    for histories in (split.train, split.device, split.seen, split.many):
        for part in (histories.offsets, histories.items) if histories is not None else ():
            yield part.tobytes()
    yield split.targets.tobytes()
    if split.negatives is not None:
        yield split.negatives.tobytes()


def _id(secret: bytes) -> str:
    return hmac.new(secret, b"id", hashlib.sha256).hexdigest()[:8]
