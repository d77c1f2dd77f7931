"""One record of a ledger: a signed payload with exactly one spelling.

A line is a DSSE envelope around an in-toto Statement v1 (secure-systems-lab/dsse v1.0.2; the signature covers
PAE(type, payload), so no canonical JSON is needed):

| field | content |
|---|---|
| `subject` | the subject of the record: a name that begins with the run's id, and its SHA-256 |
| `predicateType` | `urn:fedrec:ledger:TYPE:v1`, after the type of the payload |
| `predicate.index`, `predicate.previous` | its place, and the root of the tree of all records before it |
| `predicate.payload` | the payload that `Ledger.append` received |

Differs from DSSE: other spellings of the same envelope (spaces, order, a second signature) are refused. So every
changed byte is noticed, and text and signature alone (as in a proof) give the line again.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from fedrec.audit.log.checkpoint import RUN_ID
from fedrec.audit.log.keys import PublicKey, SigningKey
from fedrec.audit.log.merkle import leaf_hash
from fedrec.json_types import Json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_ENVELOPE = b'{"payload":"%s","payloadType":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}'
DEEPEST = 32
"""Most levels of lists and objects in a record; the records of a run have ten."""
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_KEY_ID = re.compile("[0-9a-f]{16}")
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False)


class Subject(NamedTuple):
    """The subject of a record: its name, and its SHA-256 (hex)."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A record as readers of a ledger get it.

    Attributes:
        index: its place in the ledger, from 0.
        previous: the root (hex) of the records before it.
        about: its subject.
        payload: what `Ledger.append` was given.
    """

    index: int
    previous: str
    about: Subject
    payload: Json


@dataclass(frozen=True)
class SignedRecord:
    """A record of a ledger.

    Attributes:
        text: the in-toto Statement, as signed.
        line: the envelope, without its newline.
    """

    text: bytes
    key_id: str
    signature: bytes

    @cached_property
    def statement(self) -> dict[str, Any]:
        """The in-toto Statement."""
        value: dict[str, Any] = json.loads(self.text)
        return value

    @cached_property
    def line(self) -> bytes:
        """The envelope: the leaf of the tree."""
        if not _KEY_ID.fullmatch(self.key_id):
            raise ValueError("a signature by no key of ours")
        return _ENVELOPE % (
            base64.b64encode(self.text),
            PAYLOAD_TYPE.encode("ascii"),
            self.key_id.encode("ascii"),
            base64.b64encode(self.signature),
        )

    @property
    def leaf(self) -> bytes:
        """The hash of the leaf."""
        return leaf_hash(self.line)

    @property
    def index(self) -> int:
        """Its place in the ledger, from 0."""
        index: int = self.statement["predicate"]["index"]
        return index

    @property
    def previous(self) -> str:
        """The root (hex) of the records before it."""
        previous: str = self.statement["predicate"]["previous"]
        return previous

    @property
    def payload(self) -> Json:
        """The appended payload."""
        payload: Json = self.statement["predicate"]["payload"]
        return payload

    @property
    def subject(self) -> tuple[str, str]:
        """Name and SHA-256 (hex) of the record's subject."""
        subject = self.statement["subject"][0]
        return subject["name"], subject["digest"]["sha256"]

    @property
    def run(self) -> str:
        """The run's id."""
        return self.subject[0].partition("/")[0]

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether the signature is that of `key`."""
        return key.verifies(self.signature, _pae(self.text))

    @property
    def entry(self) -> Entry:
        """The record for readers of a ledger."""
        name, digest = self.subject
        return Entry(self.index, self.previous, Subject(name.partition("/")[2], digest), self.payload)


def signed(
    index: int, previous: str, run: str, payload: Mapping[str, Any], about: tuple[str, str] | None, key: SigningKey
) -> SignedRecord:
    """Sign a new record.

    Args:
        index: its place in the ledger, from 0.
        previous: root (hex) of the records before it.
        run: the run's id.
        payload: JSON-able.
        about: name and SHA-256 (hex) of its subject; None for the records before it.
        key: signs the record.

    Raises:
        ValueError: for NaN or infinity.
        TypeError: for a value without a form in JSON.
    """
    name, digest = about or ("ledger", previous)
    text = _json(
        {
            "_type": STATEMENT_TYPE,
            "predicate": {"index": index, "payload": dict(payload), "previous": previous},
            "predicateType": _predicate_type(payload),
            "subject": [{"digest": {"sha256": digest}, "name": f"{run}/{name}"}],
        }
    )
    return SignedRecord(text, key.public.id, key.sign(_pae(text)))


def parsed(line: bytes) -> SignedRecord:
    """Parse a line (without newline).

    Raises:
        ValueError: when the line is no record, or has another spelling than the canonical one.
    """
    try:
        _check_depth(line)
        envelope = json.loads(line)
        (signature,) = envelope["signatures"]
        record = SignedRecord(
            base64.b64decode(envelope["payload"], validate=True),
            str(signature["keyid"]),
            base64.b64decode(signature["sig"], validate=True),
        )
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise ValueError("no signed record") from None
    if record.line != line:
        raise ValueError("a signed record in another spelling")
    check_shape(record)
    return record


def check_shape(record: SignedRecord) -> None:
    """Raise ValueError unless the text is a Statement of a ledger, in the canonical spelling."""
    try:
        _check_depth(record.text)
        statement = record.statement
        (subject,) = statement["subject"]
        again = {
            "_type": STATEMENT_TYPE,
            "predicate": {"index": record.index, "payload": record.payload, "previous": record.previous},
            "predicateType": _predicate_type(record.payload),
            "subject": [{"digest": {"sha256": subject["digest"]["sha256"]}, "name": subject["name"]}],
        }
        strings = [record.previous, *record.subject, record.key_id]
        sound = type(record.index) is int and all(isinstance(each, str) for each in strings)
        sound = sound and RUN_ID.fullmatch(record.run) is not None
        sound = sound and _json(again) == record.text
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError("a signed text that is no record of a ledger")


def _check_depth(text: bytes) -> None:
    """Raise ValueError for JSON that is nested too deep for its readers."""
    if text.count(b"[") + text.count(b"{") <= DEEPEST:
        return
    depth = 0
    for found in _NESTING.finditer(text):
        token = found.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > DEEPEST:
                raise ValueError("nested too deep")
        elif token in (b"]", b"}"):
            depth -= 1


def _predicate_type(payload: Mapping[str, Any]) -> str:
    return f"urn:fedrec:ledger:{payload.get('type', 'entry')}:v1"


def _json(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("ascii")


def _pae(text: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(text), text)
