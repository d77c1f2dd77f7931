"""The gate of a node: a question passes only with a run card of a pinned key and its charge in the run's ledger.

| what a server does | word of the refusal |
|---|---|
| it asks without a ledger, or edits the card after signing, or shows another card of the run | `card` |
| its ledger is signed by a key that is not pinned | `key` |
| it shows an expired card; an older card than the newest of its key | `expired`; `serial` |
| no witness cosigned, where the node asks for one; the helper that the card names has not | `witness` |
| its card names a helper that the node has not pinned | `helper` |
| it asks what is not charged, or two questions for one charge, or an earlier charge again | `charge` |
| it cuts its ledger back, or shows each node another one | `head` |
| its question, or its charge, is on other terms than the card | `terms`, `fingerprint` |
| it leaves users out of a round in which the card asks everybody | `cohort` |

All of this is public: a refusal shows nothing of the data. Where no key is pinned, the key of the first accepted card
is, as with SSH: the TLS connection to the server is then all that vouches for it.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedrec import wire
from fedrec.audit.card.card import CardRefused, RunCard
from fedrec.audit.card.checks import check_card, read_signer
from fedrec.audit.card.question import Forked, Paid, check_question
from fedrec.audit.card.receipt import NONCE, Receipt, answer_commitment, question_digest
from fedrec.audit.log.checkpoint import RUN_ID
from fedrec.audit.log.keys import PublicKey, public_key
from fedrec.federation import exchange
from fedrec.federation.exchange import LedgerProof
from fedrec.secagg import Roster
from fedrec.transport.node_key import NodeKey
from fedrec.wire import Fact, Packet, WireError
from fedrec_client.card_terms import card_terms
from fedrec_client.consent.terms import RunTerms
from fedrec_client.described_run import AskedSum, DescribedRun
from fedrec_client.helped import HelpedMasks
from fedrec_client.masking import Masks
from fedrec_client.run_memory import LastQuestion, RunMemory


@dataclass(frozen=True)
class Pins:
    """Whose word counts.

    Attributes:
        keys: public keys of ledgers, as `ed25519:BASE64`; empty to pin the first that is seen.
        witnesses: public keys of witnesses, one of which must have cosigned a card; empty to demand none.
        helpers: public keys of helpers that may keep the masks of secure sums; empty for none.
    """

    keys: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()


class HeadUnknown(WireError):
    """A question whose proof of growth starts from another state than the node saw. seen: records that it saw."""

    def __init__(self, message: str, seen: int) -> None:
        super().__init__("head", message)
        self.seen = seen


@dataclass(frozen=True)
class Admitted:
    """A question that passed.

    Attributes:
        paid: the run's card, the round, and the charge in the ledger.
        question: digest of what all nodes of the round are asked (`fedrec.audit.card.receipt.question_digest`).
        whole: digest of all that decides this node's answer, its cohort too. It stays on the node.
    """

    paid: Paid
    question: str
    whole: str

    @property
    def card(self) -> RunCard:
        """The run's card."""
        return self.paid.card


class RunGate:
    """Checks questions, and signs receipts.

    Args:
        folder: what the node remembers of runs (`RunMemory`).
        pins: called for every question, so that a changed policy counts at once.
        key: signs receipts; None for a node without a key, which a server with a folder of keys does not accept.
        now: the clock, with a zone.
        kept: whether this process, with its secrets of a round, answers the next message, too.

    Attributes:
        masks: the node's part in secure sums among nodes; None for a node without a key.
        helped: its part in secure sums whose masks a helper keeps; None for a node without a key.
    """

    def __init__(
        self,
        folder: Path,
        pins: Callable[[], Pins] = Pins,
        key: NodeKey | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        kept: bool = True,
    ) -> None:
        self._memory, self._pins, self._key, self._now, self.kept = RunMemory(folder), pins, key, now, kept
        self.masks = None if key is None else Masks(key.masks_key(), folder / "masks")
        self.helped = None if key is None else HelpedMasks(key.masks_key(), folder / "masks")

    def admit(self, packet: Packet) -> Admitted:
        """Check a `sum` question before anything is computed, and remember it on disk.

        Raises: WireError with one word for the server; HeadUnknown where it should show growth from an older state.
        """
        proof = exchange.proof_of(packet)
        if not RUN_ID.fullmatch(proof.run):
            raise WireError("card", "a question without the id of a run")
        with self._memory.held():
            try:
                return self._admitted(packet, proof)
            except Forked as error:
                self._memory.contradiction(proof.run, *error.evidence)
                raise WireError(error.code, str(error)) from None
            except CardRefused as error:
                last = self._memory.last(proof.run) if error.code == "head" else None
                if last is not None:
                    raise HeadUnknown(str(error), last.checkpoint.size) from None
                raise WireError(error.code, str(error)) from None

    def check_terms(self, admitted: Admitted, spec: DescribedRun, queries: Sequence[AskedSum]) -> None:
        """Compare what the node would compute with the card.

        Args:
            admitted: the question.
            spec: the run's description, of the fingerprint that the card names.
            queries: of the round, as the node's own algorithm asks them.
        Raises: WireError `terms`.
        """
        card = admitted.card
        if card.private and card.trust != spec.trust:
            raise WireError("terms", f"a question of trust model {spec.trust}, and the card promises {card.trust}")
        row = [
            (query.name, query.shape, query.clip_norm, query.factors) for query in card.terms(admitted.paid.round_index)
        ]
        own = [
            (
                query.name,
                tuple(query.shape),
                query.clip_norm if card.private else None,
                query.factors if card.private else None,
            )
            for query in queries
        ]
        if row != own:
            raise WireError(
                "terms", f"round {admitted.paid.round_index}: other queries, shapes or clips than the card's"
            )
        facts = (spec.private, spec.users, spec.expected_cohort, spec.algorithm)
        if facts != (card.private, card.users, card.expected_cohort, card.algorithm):
            raise WireError(
                "terms", "the run's description and its card differ in users, sampling, algorithm or privacy"
            )

    def check_roster(self, admitted: Admitted, roster: Roster) -> None:
        """Compare the nodes' keys for masks with the card. Raises: WireError `roster`."""
        if admitted.card.roster != roster.root.hex():
            raise WireError("roster", "the roster is not the one of the run card")

    def masks_presence(self) -> dict[str, Fact]:
        """Return the key for masks and its signature, as facts of a presence; none for a node without a key."""
        if self._key is None or self.masks is None:
            return {}
        signature = self._key.sign(exchange.masks_key_text(self.masks.public))
        return {exchange.MASKS_KEY: self.masks.public.hex(), exchange.MASKS_SIGNATURE: signature.hex()}

    def check_cohort(self, admitted: Admitted, cohort: np.ndarray, users: int) -> None:
        """Compare who is asked with the card: where everybody is asked in a round, nobody may be left out.

        Sums over two cohorts of such a run would differ by what one user contributes, or by one user's secret coin.
        In a stream of correlated noise the device ledger checks each user's participations.

        Args:
            admitted: the question.
            cohort: (C,) int64: positions of the users who are asked.
            users: number of users that the node hosts.
        Raises: WireError `cohort`.
        """
        card, alone = admitted.card, admitted.card.stream(admitted.paid.round_index) is None
        everybody = (card.sampling == 1 and alone) or card.hidden
        if everybody and len(cohort) != users:
            raise WireError("cohort", "the run's card asks every user in every round, and the question leaves some out")

    def terms(self, admitted: Admitted, *, public: bool) -> RunTerms:
        """Return the terms of an admitted run, for the node's policy.

        Args:
            admitted: the question.
            public: whether the users are a shard of the dataset that the run names.
        """
        return card_terms(admitted.card, [public_key(each) for each in self._pins().witnesses], public=public)

    def receipt(self, admitted: Admitted, sums: Mapping[str, Any]) -> dict[str, Fact]:
        """Sign an answer, and keep the receipt on disk. The same whether the sums are of users or zero.

        Args:
            admitted: the question.
            sums: int64 totals by query.
        Returns: the facts of the answer; none for a node without a key.
        """
        if self._key is None:
            return {}
        paid, nonce = admitted.paid, secrets.token_hex(NONCE)
        made = Receipt(
            run=paid.card.run,
            round_index=paid.round_index,
            charge=paid.charge,
            question=admitted.question,
            answer=answer_commitment(nonce, {name: wire.digest(total) for name, total in sums.items()}),
            size=paid.checkpoint.size,
            root=paid.checkpoint.root,
            node=self._key.public,
        ).signed(self._key.sign)
        with self._memory.held():
            self._memory.signed(made.run, made.text, nonce)
        return {exchange.RECEIPT: made.text, exchange.NONCE: nonce}

    def _admitted(self, packet: Packet, proof: LedgerProof) -> Admitted:
        card, stored = self._card(proof)
        if packet.fingerprint != card.fingerprint:
            raise CardRefused("fingerprint", "the run's description is not the one that its card names")
        last = self._memory.last(card.run) or LastQuestion(card.checkpoint.note)
        paid = check_question(card, last.checkpoint, packet.round, proof.charge, proof.growth)
        digests, _ = exchange.shared_of(packet)
        question = question_digest(card.run, packet.round, paid.charge, card.fingerprint, digests)
        whole = hashlib.sha256(f"{question}\n{exchange.cohort_digest(packet)}".encode()).hexdigest()
        if paid.charge < last.charge or (paid.charge == last.charge and whole != last.question):
            raise CardRefused("charge", f"round {packet.round}: the charge has paid for another question already")
        if not stored:
            self._memory.accept(card.run, proof.card or "", card.key.text, card.serial)
        self._memory.asked(card.run, LastQuestion(paid.checkpoint.note, paid.charge, whole))
        return Admitted(paid, question, whole)

    def _card(self, proof: LedgerProof) -> tuple[RunCard, bool]:
        """Return the run's card, and whether it was known before."""
        stored, pins = self._memory.card(proof.run), self._pins()
        text = proof.card or stored
        if text is None:
            raise WireError("missing", exchange.REFUSALS["missing"])
        keys = [public_key(each) for each in pins.keys or self._memory.keys] or read_signer(text)
        witnesses = [public_key(each) for each in pins.witnesses]
        card = check_card(stored or text, keys, self._now(), witnesses)
        if card.run != proof.run:
            raise CardRefused("card", "the run card is another run's")
        _check_helper(card, pins)
        if stored is not None:
            if proof.card and check_card(proof.card, keys, self._now(), witnesses).digest != card.digest:
                raise CardRefused("card", f"run {card.run}: this node knows another run card of this run")
        elif not self._memory.new(card.run, card.key.text, card.serial):
            raise CardRefused("serial", f"run {card.run}: this node knows a later run card of the same key")
        return card, stored is not None


def _check_helper(card: RunCard, pins: Pins) -> None:
    """Check that the helper of a card is pinned, and knows the run: it cosigns no ledger whose card names another."""
    if card.helper is None:
        return
    key = card.helper.key
    if key.text not in pins.helpers:
        raise CardRefused("helper", f"the card names the helper {key.text}, which is not in server.helpers")
    if card.checkpoint.cosigned_at(key) is None:
        raise CardRefused("witness", "the helper that the card names has not cosigned the card's checkpoint")


def pinned(keys: Sequence[PublicKey], witnesses: Sequence[PublicKey] = ()) -> Callable[[], Pins]:
    """Return fixed pins."""
    pins = Pins(tuple(key.text for key in keys), tuple(key.text for key in witnesses))
    return lambda: pins
