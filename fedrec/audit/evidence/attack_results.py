"""Results of attacks: the ledger records that an attack was made, and fixes its result by a salted digest.

An attack uses all users' data, and its figures are exact, so they stay in `private/attacks.json`. The owner can read
them there. A reader of the ledger alone learns that there is a result, but not its content.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrec.audit.entries.records import AttackRecord
from fedrec.audit.evidence import salted
from fedrec.audit.evidence.layout import SALT
from fedrec.errors import FedrecError
from fedrec.received_files import read_below

FILE = "attacks.json"
VERSION = 2
LARGEST = 64 << 20
"""Bytes of the file that are read."""


def record(result: Mapping[str, Any], salt: bytes) -> AttackRecord:
    """Return the ledger's part of a result.

    Args:
        result: the result.
        salt: the salt of the run (`salted.salt_in`).
    """
    return AttackRecord(
        type="attack",
        name=result["name"],
        adversary=result["adversary"],
        version=VERSION,
        result=_digest(result, salt),
    )


def opened(recorded: Mapping[str, Any], private: Path | None) -> Mapping[str, Any]:
    """Return the result that a record of the ledger fixes, if the private folder contains it; else the record.

    Records of older versions contain their result themselves.
    """
    if private is None or "result" not in recorded:
        return recorded
    try:
        salt, content = read_below(private, SALT, salted.BYTES) or b"", read_below(private, FILE, LARGEST) or b"[]"
        results = json.loads(content)
        return next((each for each in results if _digest(each, salt) == recorded["result"]), recorded)
    except (FedrecError, ValueError, TypeError, RecursionError):
        return recorded


def _digest(result: Mapping[str, Any], salt: bytes) -> str:
    return salted.digest(salt, "attack", json.dumps(result, sort_keys=True).encode())
