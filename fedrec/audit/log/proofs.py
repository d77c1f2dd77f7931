"""Proofs that need no ledger: of one record in it, and of growth without a rewritten past.

Both are small texts, made from the ledger and checked with a public key alone.

| proof | lines |
|---|---|
| of a record | `fedrec-record@v1`; its text; key id and signature; C2SP tlog-proof (index, audit path, checkpoint) |
| of growth | `fedrec-growth@v1`; size and root before; the consistency path; an empty line; the checkpoint after |

The proof contains the record in clear: text and signature give its envelope, and so the leaf.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from fedrec.audit.log import checkpoint as checkpoint_note
from fedrec.audit.log import envelope, merkle
from fedrec.audit.log.chain import Chain
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.envelope import SignedRecord
from fedrec.audit.log.keys import PublicKey
from fedrec.errors import InputError, VerificationError

RECORD, GROWTH = "fedrec-record@v1", "fedrec-growth@v1"
LARGEST = 16 << 20
"""Most bytes of a proof."""
_TLOG = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Proven:
    """The content of a checked proof.

    Attributes:
        checkpoint: the checkpoint of the proof.
        record: None for a proof of growth.
        before: size and root that the ledger grew from; None for a proof of a record.
    """

    checkpoint: Checkpoint
    record: SignedRecord | None = None
    before: tuple[int, bytes] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The content as a JSON object."""
        found: dict[str, Any] = {
            "run": self.checkpoint.run,
            "records": self.checkpoint.size,
            "head": self.checkpoint.root.hex(),
        }
        if self.record is not None:
            found |= {"index": self.record.index, "payload": self.record.payload, "about": self.record.subject}
        if self.before is not None:
            found |= {"grew_from": {"records": self.before[0], "head": self.before[1].hex()}}
        return found


def of_record(chain: Chain, sealed: Checkpoint, index: int) -> str:
    """Make the proof that record `index` is under the checkpoint.

    Raises:
        InputError: when the checkpoint does not cover the record.
    """
    if not 0 <= index < sealed.size:
        raise InputError(f"record {index}: the checkpoint covers records 0..{sealed.size - 1}")
    record = chain.records[index]
    path = merkle.inclusion_path(chain.leaves[: sealed.size], index)
    lines = [RECORD, record.text.decode("ascii"), f"{record.key_id} {_b64(record.signature)}"]
    lines += [_TLOG, f"index {index}", *map(_b64, path)]
    return "\n".join(lines) + "\n\n" + sealed.note


def of_growth(chain: Chain, sealed: Checkpoint, before: Older) -> str:
    """Make the proof that the ledger under the checkpoint began with the state `before`.

    Raises:
        VerificationError: when the ledger did not begin with it.
    """
    if before.size > sealed.size or chain.roots[before.size] != before.root:
        raise VerificationError(f"{before.place}: is no beginning of this ledger, so there is no proof of growth")
    path = merkle.consistency_path(chain.leaves[: sealed.size], before.size)
    lines = [GROWTH, f"{before.size} {_b64(before.root)}", *map(_b64, path)]
    return "\n".join(lines) + "\n\n" + sealed.note


def check(text: str, key: PublicKey) -> Proven:
    """Check a proof under `key`, the one that is in force at its checkpoint.

    Raises:
        InputError: when the text is no proof.
        VerificationError: when the proof does not hold.
    """
    body, _, note = text.partition("\n\n")
    lines = body.split("\n")
    try:
        sealed = checkpoint_note.parsed(note)
        if lines[0] == RECORD:
            proven = _record(lines, sealed)
        elif lines[0] == GROWTH:
            proven = _growth(lines, sealed)
        else:
            raise ValueError("unknown kind")
    except (ValueError, IndexError, binascii.Error):
        raise InputError("this is no proof of `fedrec audit prove`, or it was damaged") from None
    if not sealed.signed_by(key):
        raise VerificationError(f"the proof's checkpoint is not signed by the key {key.id}")
    record = proven.record
    if record is not None:
        if record.run != sealed.run:
            raise VerificationError(f"the record is of the run {record.run}, the checkpoint of {sealed.run}")
        if record.key_id == key.id and not record.signed_by(key):
            raise VerificationError(f"the record is not signed by the key {key.id}")
    return proven


def _record(lines: list[str], sealed: Checkpoint) -> Proven:
    key_id, signature = lines[2].split(" ")
    record = SignedRecord(lines[1].encode("ascii"), key_id, _bytes(signature))
    envelope.check_shape(record)
    if lines[3] != _TLOG or lines[4] != f"index {record.index}":
        raise ValueError("another index")
    path = [_bytes(line) for line in lines[5:]]
    if not merkle.included(record.leaf, record.index, sealed.size, path, sealed.root):
        raise VerificationError(f"record {record.index} is not in the ledger that the checkpoint is of")
    return Proven(sealed, record=record)


def _growth(lines: list[str], sealed: Checkpoint) -> Proven:
    size, root = lines[1].split(" ")
    before = int(size), _bytes(root)
    if str(before[0]) != size:
        raise ValueError("another spelling")
    path = [_bytes(line) for line in lines[2:]]
    if not merkle.consistent(*before, sealed.size, sealed.root, path):
        raise VerificationError(f"the ledger of {sealed.size} records did not grow from those {before[0]}")
    return Proven(sealed, before=before)


def _bytes(text: str) -> bytes:
    """Decode Base64 in its one proper spelling."""
    value = base64.b64decode(text, validate=True)
    if _b64(value) != text:
        raise ValueError("another spelling")
    return value


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
