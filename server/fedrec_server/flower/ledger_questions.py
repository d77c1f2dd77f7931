"""What a deployment shows nodes of its ledger, and what they sign for it.

Before round 0 the ledger's first record is published as the run card. Each question of a round carries the proof that
the round is charged, under one checkpoint, and the proof that the ledger grew from what the node saw last. The answers'
receipts are checked, kept in `private/receipts.jsonl`, and named in the ledger by their SHA-256, before the noise is
added: one record a round, with as many digests as the run has nodes. Random digests stand for nodes that did not
answer, so the record does not show who did.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedrec import wire
from fedrec.audit.card.card import RunCard
from fedrec.audit.card.publish import LedgerProofs
from fedrec.audit.card.receipt import NONCE, Receipt, answer_commitment, parse_receipt, question_digest
from fedrec.audit.entries.records import LedgerHead, ReceiptsRecord
from fedrec.audit.log import checkpoint
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.log.ledger import Ledger
from fedrec.durable import replace
from fedrec.errors import InputError, VerificationError
from fedrec.federation import exchange
from fedrec.federation.exchange import LedgerProof
from fedrec.transport.node_key import NodePublicKey
from fedrec.wire import Packet, WireError

NODES_A_RECORD = 4096
"""Receipts that one record names; a round of more nodes has several records."""

Keys = Callable[[], Mapping[int, NodePublicKey]]
"""Return the public key of each admitted node, by Flower's id."""


class LedgerQuestions:
    """The ledger of a run, as its nodes see it.

    Args:
        ledger: its first record has a run card.
        receipts: file of the receipts.
        nodes: number of nodes of the run.
        keys: the nodes' keys; None without a folder of keys, and then no receipt is demanded.
    """

    def __init__(self, ledger: Ledger, receipts: Path, nodes: int, keys: Keys | None = None) -> None:
        self._ledger, self._file, self._nodes, self._keys = ledger, receipts, nodes, keys
        self._proofs = LedgerProofs(ledger)
        self._has_card: set[int] = set()
        self._seen: dict[int, int] = {}
        self._made: dict[int, Receipt] = {}
        self._allowed: Mapping[int, NodePublicKey] | None = None
        self._round, self._charge, self._proof, self._question = -1, -1, "", ""
        self._head = Checkpoint("", 0, b"")

    def check(self, fingerprint: str, roster: str = "") -> None:
        """Raises: InputError where the ledger has no run card, one of another run, or one too large for nodes.

        Args:
            fingerprint: of the run's description.
            roster: root (hex) over the nodes' keys for masks; "" in a run without masks.
        """
        if self._proofs.card.roster != roster:
            raise InputError(
                f"{self._ledger.path}: the nodes' keys for masks are not those that the run began with; start the same "
                "nodes, or a new run"
            )
        if self._proofs.card.fingerprint != fingerprint:
            raise InputError(
                f"{self._ledger.path}: the run card is of other settings, as of a run that ended before its first "
                "round; start a new run"
            )
        self._proofs.card_text()

    def cosigned(self, witnesses: Sequence[PublicKey] = (), every: Sequence[PublicKey] = ()) -> bool:
        """Publish the card under a cosigned checkpoint, where there is one.

        Args:
            witnesses: one of which must have left its note with the ledger; empty for any witness.
            every: keys that must all have cosigned.
        Returns: whether there was one.
        """
        notes = []
        for file in sorted(self._ledger.path.parent.glob("witness-*.note")):
            try:
                notes.append(checkpoint.parsed(file.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                continue  # one that is being written, or none of ours
        return self._proofs.cosigned(notes, witnesses, every)

    def keep_note(self, note: str, key: PublicKey, name: str) -> bool:
        """Keep the newest checkpoint with a cosignature next to the ledger.

        Args:
            note: the cosigned checkpoint.
            key: of the witness.
            name: of the file.
        Returns: whether it is this ledger's newest checkpoint, with that cosignature; else nothing is kept.
        """
        sealed = self._proofs.seal()
        try:
            found = checkpoint.parsed(note)
        except ValueError:
            return False
        if found.text != sealed.text or found.lines[:1] != sealed.lines or found.cosigned_at(key) is None:
            return False
        replace(self._ledger.path.parent / name, note.encode())
        return True

    def card_now(self) -> str:
        """Return the card with its proof under the newest checkpoint."""
        return self._proofs.card_now()

    def growth(self, size: int) -> str:
        """Return the proof that the ledger extends its first `size` records."""
        return self._proofs.growth(size)

    @property
    def records(self) -> int:
        """Number of records under the newest checkpoint."""
        return self._proofs.seal().size

    @property
    def charge_proof(self) -> str:
        """The proof of the record that charged the round."""
        return self._proof

    def begin(self, round_index: int, fingerprint: str, shared: Mapping[str, str]) -> None:
        """Prepare the questions of a round.

        Args:
            round_index: from 0.
            fingerprint: of the run's description.
            shared: digest of each shared tensor, by name.
        Raises: VerificationError when the round is not charged.
        """
        self._round, self._made = round_index, {}
        self._head = self._proofs.seal()
        self._charge, self._proof = self._proofs.charge(round_index)
        self._question = question_digest(self._proofs.run, round_index, self._charge, fingerprint, shared)
        self._allowed = None if self._keys is None else self._keys()

    def proof(self, node: int) -> LedgerProof:
        """Return the proof for a node's question."""
        card = None if node in self._has_card else self._proofs.card_text()
        return LedgerProof(self._proofs.run, self._proof, self._proofs.growth(self._seen.get(node)), card)

    def answered(self, node: int, packet: Packet) -> None:
        """Check and keep the receipt of a node's answer, whose sums were checked.

        Raises: WireError `receipt` for a receipt that is missing, or of another question, answer, head or key.
        """
        key = None if self._allowed is None else self._allowed.get(node)
        given = packet.facts.get(exchange.RECEIPT)
        if given is not None or self._allowed is not None:
            receipt = self._checked(packet, key)
            self._made[node] = receipt
        self.admitted(node)

    def admitted(self, node: int) -> None:
        """Take note that a node accepted the proofs of its question."""
        self._has_card.add(node)
        self._seen[node] = self._head.size

    @property
    def card(self) -> RunCard:
        """The run card."""
        return self._proofs.card

    @property
    def asked(self) -> tuple[str, int]:
        """Digest of the round's question, and number of the record that charged it."""
        return self._question, self._charge

    def refused(self, node: int, packet: Packet | None) -> None:
        """Take note of a question that a node did not answer as it should: the next one shows it more."""
        facts = {} if packet is None or packet.kind != exchange.REFUSAL else packet.facts
        seen = facts.get(exchange.SEEN)
        if type(seen) is int and 0 <= seen <= self._head.size:
            self._seen[node] = seen
        if facts.get("code") != "head":
            self._has_card.discard(node)

    def end(self) -> None:
        """Write the receipts of the round to disk, then to the ledger."""
        if self._allowed is None and not self._made:
            return
        made = [self._made[node] for node in sorted(self._made)]
        absent = [secrets.token_hex(32) for _ in range(self._nodes - len(made))]
        line = {"round": self._round, "charge": self._charge, "receipts": [receipt.text for receipt in made]}
        self._append(json.dumps(line) + "\n")
        digests = sorted([receipt.digest for receipt in made] + absent)
        for start in range(0, len(digests), NODES_A_RECORD):
            record = ReceiptsRecord(
                type="receipts",
                round=self._round,
                charge=self._charge,
                question=self._question,
                head=LedgerHead(records=self._head.size, root=self._head.root.hex()),
                receipts=digests[start : start + NODES_A_RECORD],
            )
            self._ledger.append(record.payload())

    def _checked(self, packet: Packet, key: NodePublicKey | None) -> Receipt:
        text, nonce = packet.facts.get(exchange.RECEIPT), packet.facts.get(exchange.NONCE)
        if not isinstance(text, str) or not isinstance(nonce, str) or len(nonce) != 2 * NONCE:
            raise WireError("receipt", "an answer without a receipt; install the same fedrec on server and nodes")
        try:
            receipt = parse_receipt(text)
            receipt.verify()
        except VerificationError as error:
            raise WireError("receipt", str(error)) from None
        answer = answer_commitment(nonce, {name: wire.digest(total) for name, total in packet.tensors.items()})
        asked = (self._proofs.run, self._round, self._charge, self._question, self._head.size, self._head.root)
        given = (
            *(receipt.run, receipt.round_index, receipt.charge),
            *(receipt.question, receipt.size, receipt.root),
        )
        if given != asked or receipt.answer != answer:
            raise WireError("receipt", "a receipt for another question or answer")
        if self._allowed is not None and receipt.node != key:
            raise WireError("receipt", "a receipt that is not signed by the key of its node")
        return receipt

    def _append(self, line: str) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self._file}: receipts cannot be written ({error.strerror}); free the disk") from None
