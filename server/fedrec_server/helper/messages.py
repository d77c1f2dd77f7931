"""The messages between a server and its helper, over HTTPS: a line of JSON, then bytes.

| request | line | bytes | answer |
|---|---|---|---|
| `POST /cosign` | `card`: proof of record 0; `growth` | the nodes' keys for masks, 32 bytes each | `note` |
| `POST /open` | `run`, `round`, `question`, `counts`, `growth` | `OpenRequest`, with the charge | `note`; `Opening` |
| `GET /health` | | | `ok`, `key` |

`growth` proves that the ledger extends what the helper cosigned last; `note` is the checkpoint with its cosignature. A
refusal is `error`, one line, and `seen` where the proof of growth starts from another state: the helper saw that many
records. What arrives is hostile until it is decoded here: every field has its type and its bounds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedrec.audit.card import fields
from fedrec.audit.card.checks import MOST_BYTES
from fedrec.audit.card.fields import FieldError
from fedrec.secagg import Malformed

COSIGN, OPEN, HEALTH = "/cosign", "/open", "/health"
MOST_NODES = 100_000
MOST_LINE = 4 << 20
"""Bytes of a line."""
MOST_REQUEST = 32 << 20
"""Bytes of a request."""
KEY = 32


@dataclass(frozen=True)
class CosignRequest:
    """Take up a run, and cosign its ledger.

    Attributes:
        card: the run card with its proof, under the ledger's newest checkpoint.
        growth: proof that this checkpoint extends the one that the helper cosigned last.
        roster: the nodes' keys for masks, in their order.
    """

    card: str
    growth: str
    roster: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the request's body."""
        return framed({"card": self.card, "growth": self.growth}, b"".join(self.roster))

    @classmethod
    def decode(cls, data: bytes) -> "CosignRequest":
        """Read a body. Raises: Malformed."""
        line, rest = unframed(data)
        if not rest or len(rest) % KEY or len(rest) // KEY > MOST_NODES:
            raise Malformed("a request without the nodes' keys")
        try:
            card, growth = fields.text(line, "card", MOST_BYTES), fields.text(line, "growth", MOST_BYTES)
        except FieldError as error:
            raise Malformed(f"a request in which {error}") from None
        return cls(card, growth, tuple(rest[at : at + KEY] for at in range(0, len(rest), KEY)))


@dataclass(frozen=True)
class RoundRequest:
    """Open the masks of one survivor set.

    Attributes:
        run: id of the run.
        round_index: position of the round in the run, from 0.
        question: digest (hex) of what all nodes were asked.
        counts: users of each node who were asked, in the order of the roster.
        growth: proof that the charge's checkpoint extends the one that the helper cosigned last.
        opening: an `OpenRequest`.
    """

    run: str
    round_index: int
    question: str
    counts: tuple[int, ...]
    growth: str
    opening: bytes

    def encode(self) -> bytes:
        """Return the request's body."""
        line = {"run": self.run, "round": self.round_index, "question": self.question, "growth": self.growth}
        return framed({**line, "counts": list(self.counts)}, self.opening)

    @classmethod
    def decode(cls, data: bytes) -> "RoundRequest":
        """Read a body. Raises: Malformed."""
        line, rest = unframed(data)
        try:
            counts = fields.items(line, "counts", MOST_NODES)
            if any(type(count) is not int or not 0 <= count < 1 << 31 for count in counts):
                raise FieldError("'counts' is no list of numbers of users")
            return cls(
                fields.text(line, "run", 64),
                fields.count(line, "round", 1 << 31),
                fields.digest(line, "question"),
                tuple(counts),
                fields.text(line, "growth", MOST_BYTES),
                rest,
            )
        except FieldError as error:
            raise Malformed(f"a request in which {error}") from None


@dataclass(frozen=True)
class HelperAnswer:
    """An answer: the cosigned checkpoint as a note, and for an opened round its `Opening`."""

    note: str
    opening: bytes = b""

    def encode(self) -> bytes:
        """Return the answer's body."""
        return framed({"note": self.note}, self.opening)

    @classmethod
    def decode(cls, data: bytes) -> "HelperAnswer":
        """Read a body. Raises: Malformed."""
        line, rest = unframed(data)
        try:
            return cls(fields.text(line, "note", MOST_LINE), rest)
        except FieldError as error:
            raise Malformed(f"an answer in which {error}") from None


def framed(line: Mapping[str, Any], rest: bytes = b"") -> bytes:
    """Return a line of JSON and the bytes after it."""
    return json.dumps(line).encode() + b"\n" + rest


def unframed(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the line and the bytes after it. Raises: Malformed."""
    end = data.find(b"\n", 0, MOST_LINE + 1)
    try:
        line = json.loads(data[:end]) if end >= 0 else None
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise Malformed("no message of a helper")
    return line, data[end + 1 :]
