"""The record of one release: a JSON file that the signed targets name by its SHA-256 and its exact length.

    {"format": "fedrec-release/1", "sequence": 3, "run": ID, "min_rating": null,
     "files": {NAME: {"sha256": HEX, "parts": [[HEX, BYTES], ...]}},
     "ledger": {"key": "ed25519:...", "proof": TEXT, "growth": [TEXT, ...]},
     "lists": [{"history": [ID, ...], "rating": null, "items": [[ID, SCORE], ...]}]}

`proof` is a `fedrec audit prove` of the ledger's last record, with its checkpoint and the cosignatures of witnesses.
`growth` has one proof for each head of this run that an earlier release published.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedrec.errors import VerificationError
from fedrec.releases.parts import LARGEST_PART, Part

TARGET = "release.json"
"""Name of the record among the signed targets."""
LEDGER_KEYS = "x-fedrec-ledger-keys"
"""Field of the signed root: the keys of the ledgers whose models a release may have."""
FORMAT = "fedrec-release/1"
LARGEST = 16 << 20
"""Most bytes of a record."""
PARTS = "parts"
"""Folder of the parts, each under its SHA-256."""
REQUIRED = ("manifest.json", "items.json", "model.safetensors")
PUBLIC = "public.safetensors"
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ReleasedFile:
    """A file of the model's folder. Attributes: name; sha256 of the whole, hex; parts in their order."""

    name: str
    sha256: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class ExpectedList:
    """A list that the publisher's copy of the model made, for a comparison on the device.

    Attributes:
        history: ids of the past items.
        rating: of each of them; None for events without ratings.
        items: the best items with their scores.
    """

    history: tuple[str, ...]
    rating: float | None
    items: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        sequence: number of the release in its folder, from 1.
        run: id of the run.
        min_rating: least rating that a model of events learns from; None for any.
        files: of the model's folder.
        ledger_key: public key in force at the ledger's end, as `ed25519:BASE64`.
        proof: of the ledger's last record.
        growth: proofs of growth from earlier published heads.
        lists: expected ones.
    """

    sequence: int
    run: str
    min_rating: float | None
    files: tuple[ReleasedFile, ...]
    ledger_key: str
    proof: str
    growth: tuple[str, ...]
    lists: tuple[ExpectedList, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {file.name: file.sha256 for file in self.files}

    def content(self) -> bytes:
        """Return the record's bytes."""
        value = {
            "format": FORMAT,
            "sequence": self.sequence,
            "run": self.run,
            "min_rating": self.min_rating,
            "files": {
                file.name: {"sha256": file.sha256, "parts": [[part.sha256, part.size] for part in file.parts]}
                for file in self.files
            },
            "ledger": {"key": self.ledger_key, "proof": self.proof, "growth": list(self.growth)},
            "lists": [
                {"history": list(each.history), "rating": each.rating, "items": [list(item) for item in each.items]}
                for each in self.lists
            ],
        }
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def parsed(content: bytes) -> Release:
    """Read a record whose signature was checked.

    Raises:
        VerificationError: for a record that no `publish` writes.
    """
    try:
        return _release(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise VerificationError(f"{TARGET}: no release that this version reads ({error}); update fedrec") from None


def _release(value: Any) -> Release:
    if value["format"] != FORMAT:
        raise ValueError("another format")
    files = tuple(_files(value["files"]))
    if not {file.name for file in files} >= set(REQUIRED):
        raise ValueError("a file of the model is missing")
    ledger, least = value["ledger"], value["min_rating"]
    return Release(
        _whole(value["sequence"]),
        _text(value["run"]),
        None if least is None else _number(least),
        files,
        _text(ledger["key"]),
        _text(ledger["proof"]),
        tuple(map(_text, ledger["growth"])),
        tuple(_expected(each) for each in value["lists"]),
    )


def _files(value: Any) -> Iterator[ReleasedFile]:
    for name, about in value.items():
        if name not in (*REQUIRED, PUBLIC):
            raise ValueError("a file that is not of a model")
        parts = tuple(Part(_hash(digest), _whole(size)) for digest, size in about["parts"])
        if not all(1 <= part.size <= LARGEST_PART for part in parts):
            raise ValueError("a part of an impossible size")
        yield ReleasedFile(name, _hash(about["sha256"]), parts)


def _expected(value: Any) -> ExpectedList:
    rating = value["rating"]
    items = tuple((_text(item), _number(score)) for item, score in value["items"])
    return ExpectedList(tuple(map(_text, value["history"])), None if rating is None else _number(rating), items)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _hash(value: Any) -> str:
    if not _HASH.fullmatch(_text(value)):
        raise ValueError("no SHA-256")
    return str(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)
