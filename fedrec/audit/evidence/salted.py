"""Digests of private values that a released ledger may hold: without the salt, nobody can check a guess against one.

An attacker can invert a plain SHA-256 of a small value (a metric, a count, a history without one event) by trying all
values. That is not possible with HMAC-SHA256 under 32 random bytes that stay in `private/`. Every name has a key of its
own, derived from the salt. So the owner can open one value to an auditor and keep the others closed.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from fedrec import private_files
from fedrec.audit.evidence.layout import SALT
from fedrec.errors import InputError

BYTES = 32
_CHUNK = 1 << 20


def salt_in(private: Path) -> bytes:
    """Return the salt of a run, made on first use, mode 0600.

    Args:
        private: the run's private folder.

    Raises:
        InputError: when the salt is damaged, or others can read it.
    """
    path = private / SALT
    if not path.exists():
        private_files.create(path, secrets.token_bytes(BYTES))
    salt = private_files.read(path)
    if len(salt) != BYTES:
        raise InputError(f"{path}: holds {len(salt)} bytes instead of {BYTES}; restore it from a copy of the run")
    return salt


def digest(salt: bytes, name: str, content: bytes) -> str:
    """Return the HMAC-SHA256 (hex) of a value under the key of its name."""
    return hmac.new(_key(salt, name), content, hashlib.sha256).hexdigest()


def file_digest(salt: bytes, name: str, path: Path) -> str:
    """Return the `digest` of a file's content, which is read in pieces."""
    found = hmac.new(_key(salt, name), digestmod=hashlib.sha256)
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found.update(piece)
    return found.hexdigest()


def _key(salt: bytes, name: str) -> bytes:
    return hmac.new(salt, name.encode(), hashlib.sha256).digest()
