"""Receipts: what a node was asked and gave, signed with the node's key.

| line of a receipt | content |
|---|---|
| `run`, `round`, `charge` | id of the run, position of the round, number of the record that charged it |
| `question` | SHA-256 of what was asked: fingerprint of the run, digests of the shared tensors; not the cohort |
| `answer` | SHA-256 of a secret nonce and the digests of the sums |
| `head` | size and root of the ledger that the question showed |
| `node` | the node's public key |

The server gets the nonce with the answer, so that it can check the receipt, and writes it nowhere. Without it a receipt
does not show whether an answer was zero, empty or anybody's. The ledger names receipts by their SHA-256 alone, since
the keys of the nodes that answered are no release: signatures of ECDSA are random, so that nobody can guess a receipt.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fedrec.audit.log.checkpoint import LARGEST_SIZE, RUN_ID
from fedrec.errors import VerificationError
from fedrec.transport.node_key import NodePublicKey

FORMAT = "fedrec-receipt@v1"
MOST_BYTES = 2048
"""Bytes of a receipt."""
NONCE = 32
"""Bytes of a nonce."""
_HASH = re.compile("[0-9a-f]{64}")
_NUMBER = re.compile("0|[1-9][0-9]{0,15}")
_FIELDS = ("run", "round", "charge", "question", "answer", "head", "node")


@dataclass(frozen=True)
class Receipt:
    """One node's receipt for one answer.

    Attributes:
        run: id of the run.
        round_index: position of the round, from 0.
        charge: number of the record that charged the round.
        question: see `question_digest`.
        answer: see `answer_commitment`.
        size: number of records of the ledger that the question showed.
        root: their root, 32 bytes.
        node: the node's public key.
        signature: of `text`; empty for a receipt that is not signed yet.
    """

    run: str
    round_index: int
    charge: int
    question: str
    answer: str
    size: int
    root: bytes
    node: NodePublicKey
    signature: bytes = b""

    @property
    def signed_text(self) -> str:
        """What the node signs."""
        values = (self.run, self.round_index, self.charge, self.question, self.answer)
        lines = [f"{name} {value}" for name, value in zip(_FIELDS[:5], values, strict=True)]
        return "\n".join([FORMAT, *lines, f"head {self.size} {_b64(self.root)}", f"node {self.node.line}"]) + "\n"

    @property
    def text(self) -> str:
        """The receipt, as it travels and is stored."""
        return f"{self.signed_text}\n{_b64(self.signature)}\n"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the receipt: what the ledger holds of it."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    def signed(self, sign: Callable[[bytes], bytes]) -> "Receipt":
        """Return the receipt with a signature.

        Args:
            sign: signs with the private key of `node`.
        """
        return replace(self, signature=sign(self.signed_text.encode("ascii")))

    def verify(self) -> None:
        """Raises: VerificationError when the signature is not that of `node`."""
        if not self.node.verifies(self.signature, self.signed_text.encode("ascii")):
            raise VerificationError(f"a receipt for round {self.round_index} is not signed by its node's key")


def parse_receipt(text: str) -> Receipt:
    """Parse `Receipt.text`, in its one spelling; the signature is not checked. Raises: VerificationError."""
    try:
        if len(text) > MOST_BYTES or not text.isascii():
            raise ValueError("too long")
        body, signature = text.removesuffix("\n").split("\n\n")
        head, *lines = body.split("\n")
        values = dict(zip(_FIELDS, (line.partition(" ")[2] for line in lines), strict=True))
        size, root = values["head"].split(" ")
        made = Receipt(
            run=values["run"],
            round_index=_number(values["round"]),
            charge=_number(values["charge"]),
            question=values["question"],
            answer=values["answer"],
            size=_number(size),
            root=base64.b64decode(root, validate=True),
            node=NodePublicKey(values["node"]),
            signature=base64.b64decode(signature, validate=True),
        )
        hashes = all(_HASH.fullmatch(each) for each in (made.question, made.answer))
        right = RUN_ID.fullmatch(made.run) is not None and hashes and len(made.root) == 32 and head == FORMAT
        if not right or made.size > LARGEST_SIZE or made.text != text:
            raise ValueError("another spelling")
    except (ValueError, KeyError, binascii.Error):
        raise VerificationError("no receipt of a node, or it was damaged") from None
    return made


def question_digest(run: str, round_index: int, charge: int, fingerprint: str, shared: Mapping[str, str]) -> str:
    """Return the digest of a question, the same for all nodes of a round.

    It leaves out the cohort, which is secret: a hash of few bits can be guessed.

    Args:
        run: id of the run.
        round_index: position of the round, from 0.
        charge: number of the record that charged the round.
        fingerprint: of the run's description.
        shared: digest of each shared tensor, by name.
    """
    return _digest([run, round_index, charge, fingerprint, dict(shared)])


def answer_commitment(nonce: str, sums: Mapping[str, str]) -> str:
    """Return the commitment to an answer.

    Args:
        nonce: `NONCE` random bytes, hexadecimal, fresh for every answer.
        sums: digest of each sum, by query.
    """
    return _digest([nonce, dict(sums)])


def _digest(value: list[object]) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")).hexdigest()


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return int(text)


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
