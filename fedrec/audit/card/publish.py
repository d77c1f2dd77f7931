"""The server's half of a run card: proofs of a ledger that grows, for the questions of a run.

Every proof of a round is under one checkpoint, which is signed once. Growth is proven from the checkpoint that a node
saw last; nodes that saw the same one get the same text.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from fedrec.audit.card.card import CardRefused, RunCard
from fedrec.audit.card.checks import MOST_BYTES
from fedrec.audit.card.reading import read_card
from fedrec.audit.log import proofs
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.log.ledger import Ledger
from fedrec.errors import InputError, VerificationError


def _together(notes: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return one note for each state, with the lines of all."""
    found: dict[str, Checkpoint] = {}
    for note in notes:
        lines = found[note.text].lines if note.text in found else ()
        found[note.text] = replace(note, lines=tuple(dict.fromkeys((*lines, *note.lines))))
    return list(found.values())


class LedgerProofs:
    """Proofs of one ledger.

    Args:
        ledger: the run's ledger. Its first record has a card.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._cosigned: Checkpoint | None = None
        self._now: Checkpoint | None = None
        self._growth = lru_cache(maxsize=256)(self._grown)

    @property
    def run(self) -> str:
        """Id of the run."""
        return self._ledger.run

    @property
    def card(self) -> RunCard:
        """The card. Raises: InputError when the first record has none."""
        chain = self._ledger.chain
        if not chain.records:
            raise InputError(f"{self._ledger.path}: the ledger has no first record, so there is no run card")
        try:
            return read_card(chain.records[0], self._card_checkpoint(), self._ledger.key.public)
        except CardRefused as error:
            raise InputError(
                f"{self._ledger.path}: {error}; nodes answer no run without one, start a new run"
            ) from None

    def card_text(self) -> str:
        """Return the card with its proof. Raises: InputError for a card that is larger than a node accepts."""
        text = proofs.of_record(self._ledger.chain, self._card_checkpoint(), 0)
        if len(text.encode()) > MOST_BYTES:
            raise InputError(
                f"the run card has {len(text.encode()):,} bytes, more than {MOST_BYTES:,}: too many rounds with "
                "terms of their own; plan fewer rounds"
            )
        return text

    def card_now(self) -> str:
        """Return the card with its proof under the newest checkpoint, for a witness. Raises: InputError, as above."""
        self.card_text()
        return proofs.of_record(self._ledger.chain, self.seal(), 0)

    def cosigned(
        self, notes: Sequence[Checkpoint], witnesses: Sequence[PublicKey] = (), every: Sequence[PublicKey] = ()
    ) -> bool:
        """Publish the card under a checkpoint that a witness cosigned.

        Args:
            notes: cosigned checkpoints, of which others than this ledger's are left out; the cosignatures of one state
                count together.
            witnesses: keys of witnesses, one of which must have cosigned; empty for any.
            every: keys that must all have cosigned.
        Returns: whether there was one.
        """
        chain = self._ledger.chain
        for note in _together(notes):
            ours = note.run == self.run and 1 <= note.size < len(chain.roots) and chain.roots[note.size] == note.root
            seen = any(note.cosigned_at(key) is not None for key in witnesses) if witnesses else bool(note.witnesses)
            seen = seen and all(note.cosigned_at(key) is not None for key in every)
            if ours and seen and note.signed_by(self._ledger.key.public):
                self._cosigned = note
                return True
        return False

    def seal(self) -> Checkpoint:
        """Sign a checkpoint of all records so far, for the proofs of the next questions."""
        chain = self._ledger.chain
        if self._now is None or self._now.size != len(chain.records):
            self._now = Checkpoint(self.run, len(chain.records), chain.roots[-1]).signed(self._ledger.key)
            self._growth.cache_clear()
        return self._now

    def charge(self, round_index: int) -> tuple[int, str]:
        """Return number and proof of the last record that charges a round.

        Raises: VerificationError when there is none: nothing is asked that is not charged.
        """
        for record in reversed(self._ledger.chain.records):
            if record.payload.get("type") == "charge" and record.payload.get("round") == round_index:
                return record.index, proofs.of_record(self._ledger.chain, self.seal(), record.index)
        raise VerificationError(f"round {round_index} is not charged in the ledger, so no node is asked")

    def growth(self, size: int | None) -> str:
        """Return the proof that the ledger extends its first `size` records.

        Args:
            size: number of records that the node saw; None, or a number that cannot be, for those of the card.
        """
        known = self.seal().size
        start = self._card_checkpoint().size if size is None or not 0 <= size <= known else size
        return self._growth(start)

    def _grown(self, size: int) -> str:
        chain = self._ledger.chain
        return proofs.of_growth(chain, self.seal(), Older("", size, chain.roots[size], None))

    def _card_checkpoint(self) -> Checkpoint:
        if self._cosigned is None:
            first = self._ledger.chain.roots[1]
            self._cosigned = Checkpoint(self.run, 1, first).signed(self._ledger.key)
        return self._cosigned
