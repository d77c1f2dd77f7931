"""Signed checkpoints of a ledger: number of records and root, with the cosignatures of witnesses.

Source: C2SP tlog-checkpoint (text: origin, size, root), signed-note (signature lines) and tlog-cosignature (v1: a
witness signs the text with its time). Any tool for these formats can read the checkpoints. The origin is
`fedrec/run/ID`, and the ledger's key signs under that name.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedrec.audit.log.keys import PublicKey, SigningKey

ORIGIN = "fedrec/run/"
RUN_ID = re.compile("[0-9A-Za-z_-]{1,64}")
"""A run's id. It is printed, compared, and the name of a file, so only a short word is allowed."""
LARGEST_SIZE = 1 << 40
"""More records than any ledger has."""
_DASH = "\u2014 "
_SIGNATURE, _COSIGNATURE = 0x01, 0x04


@dataclass(frozen=True)
class Checkpoint:
    """A signed checkpoint.

    Attributes:
        run: the run's id.
        size: number of records.
        root: of their tree, 32 bytes.
        lines: signature lines, as (name, key hash and signature), the ledger's own first.
    """

    run: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes], ...] = ()

    @property
    def origin(self) -> str:
        """The name of the log."""
        return ORIGIN + self.run

    @property
    def text(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"

    @property
    def note(self) -> str:
        """The signed note: the file's content."""
        return self.text + "\n" + "".join(f"{_DASH}{name} {_b64(value)}\n" for name, value in self.lines)

    def signed(self, key: SigningKey) -> "Checkpoint":
        """Return the checkpoint with the ledger's signature, and no other."""
        value = _key_hash(self.origin, _SIGNATURE, key.public) + key.sign(self.text.encode())
        return replace(self, lines=((self.origin, value),))

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether the ledger's signature is there and is one of `key`."""
        key_hash = _key_hash(self.origin, _SIGNATURE, key)
        return any(
            name == self.origin and value[:4] == key_hash and key.verifies(value[4:], self.text.encode())
            for name, value in self.lines
        )

    def cosigned(self, name: str, key: SigningKey, time: int) -> "Checkpoint":
        """Return the checkpoint with one more line: the witness `name` saw it at `time` (seconds since 1970)."""
        signature = key.sign(_cosigned_text(time, self.text))
        value = _key_hash(name, _COSIGNATURE, key.public) + time.to_bytes(8, "big") + signature
        return replace(self, lines=(*self.lines, (name, value)))

    def cosigned_at(self, key: PublicKey) -> int | None:
        """Return the time in the cosignature of the witness with `key`; None without one."""
        for name, value in self.lines:
            time = int.from_bytes(value[4:12], "big")
            right = len(value) == 76 and value[:4] == _key_hash(name, _COSIGNATURE, key)
            if right and key.verifies(value[12:], _cosigned_text(time, self.text)):
                return time
        return None

    @property
    def witnesses(self) -> Mapping[str, int]:
        """Name and time in the lines of others, unchecked."""
        return {
            name: int.from_bytes(value[4:12], "big")
            for name, value in self.lines
            if name != self.origin and len(value) == 76
        }


@dataclass(frozen=True)
class Older:
    """An earlier state of a ledger, kept elsewhere. `checkpoint` is None for a ledger without one."""

    place: str
    size: int
    root: bytes
    checkpoint: Checkpoint | None


def parsed(note: str) -> Checkpoint:
    """Parse a signed note.

    Raises:
        ValueError: when the note is no checkpoint, or has another spelling than the canonical one.
    """
    text, blank, signatures = note.partition("\n\n")
    try:
        origin, size, root = text.split("\n")
        lines = []
        for line in signatures.removesuffix("\n").split("\n") if signatures else []:
            dash, name, value = line.split(" ")
            lines.append((name, base64.b64decode(value, validate=True)))
            if dash + " " != _DASH:
                raise ValueError
        found = Checkpoint(origin.removeprefix(ORIGIN), int(size), base64.b64decode(root, validate=True), tuple(lines))
    except (ValueError, binascii.Error):
        raise ValueError("no checkpoint of a ledger") from None
    right = found.note == note and len(found.root) == 32 and 0 <= found.size <= LARGEST_SIZE
    if not blank or not right or not RUN_ID.fullmatch(found.run):
        raise ValueError("no checkpoint of a ledger")
    return found


def _cosigned_text(time: int, text: str) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _key_hash(name: str, kind: int, key: PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.raw).digest()[:4]


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
