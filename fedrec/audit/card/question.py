"""What a device checks of a question before it answers: the round's charge is in the ledger, and the ledger only grew.

Each question carries two proofs of the ledger (`fedrec.audit.log.proofs`) under one new checkpoint: of the record that
charged the round, and of growth from the last checkpoint that the device saw. A server without a ledger, with another
one for each device, or with one that it cut back cannot make them. Two checkpoints that contradict each other are
signed by the server's own key: the device keeps both (`Forked.evidence`).
"""

from dataclasses import dataclass

from fedrec.audit.card.card import CardRefused, RunCard
from fedrec.audit.card.checks import open_proof
from fedrec.audit.card.fields import FieldError, count, decimal, decimal_or_none
from fedrec.audit.card.reading import read_queries
from fedrec.audit.log.checkpoint import Checkpoint


@dataclass(frozen=True)
class Paid:
    """A question whose charge is in the ledger.

    Attributes:
        card: the run's card.
        round_index: position of the round, from 0.
        charge: number of the record that charged the round. A round that is charged twice has two.
        checkpoint: the ledger's state, signed.
    """

    card: RunCard
    round_index: int
    charge: int
    checkpoint: Checkpoint


class Forked(CardRefused):
    """A checkpoint that does not extend the one seen before.

    Attributes:
        evidence: the two checkpoints, older first, as signed notes.
    """

    def __init__(self, message: str, evidence: tuple[Checkpoint, Checkpoint]) -> None:
        super().__init__("head", message)
        self.evidence = evidence


def check_question(card: RunCard, seen: Checkpoint, round_index: int, charge: str, growth: str) -> Paid:
    """Check that a question is paid for in the ledger that the device knows.

    1. `charge` proves a record of the card's run under a checkpoint that the card's key signed.
    2. The record charges this round, on the terms of the card's row.
    3. The checkpoint is that of `growth`, which proves that it extends `seen`.

    Args:
        card: the checked card of the run.
        seen: the last checkpoint of the run that the device saw: the card's own for a first question.
        round_index: position of the round, from 0.
        charge: proof of the record that charged the round.
        growth: proof of growth from `seen`.
    Raises: CardRefused, with the word `charge`, `terms` or `head`; Forked where the ledger does not extend `seen`.
    """
    proven, _ = open_proof(charge, [card.key], "charge")
    record, new = proven.record, proven.checkpoint
    if record is None or new.run != card.run or record.key_id != card.key.id or not record.signed_by(card.key):
        raise CardRefused("charge", "the question comes without a proof of a charge in the run's ledger")
    payload = record.payload
    try:
        if payload.get("type") != "charge" or count(payload, "round") != round_index:
            raise CardRefused("charge", f"round {round_index}: the proven record does not charge this round")
        same = (
            read_queries(payload, card.private) == card.terms(round_index)
            and decimal(payload, "sampling") == card.sampling
            and decimal_or_none(payload, "delta") == card.delta
        )
    except FieldError as error:
        raise CardRefused("charge", f"round {round_index}, charge: {error}") from None
    if not same:
        raise CardRefused("terms", f"round {round_index}: the charge is on other terms than the run card's")
    check_growth(card, seen, new, growth)
    return Paid(card, round_index, record.index, new)


def check_growth(card: RunCard, seen: Checkpoint, new: Checkpoint, growth: str) -> None:
    """Check that a state of the card's ledger extends the last one that was seen.

    Args:
        card: the checked card of the run.
        seen: the last state; of no records for a first one.
        new: the state now, signed by the card's key.
        growth: proof of growth from `seen`; not read where the two are the same.
    Raises: CardRefused `head`; Forked where the ledger does not extend `seen`.
    """
    if new.size < seen.size or (new.size == seen.size and new.root != seen.root):
        raise Forked(
            f"run {card.run}: the ledger had {seen.size} records, and now has {new.size} others: cut back or forked",
            (seen, new),
        )
    if (new.size, new.root) == (seen.size, seen.root):
        return
    grown, _ = open_proof(growth, [card.key], "head")
    if grown.before != (seen.size, seen.root) or grown.checkpoint.text != new.text:
        raise CardRefused("head", f"run {card.run}: not shown to extend the {seen.size} records that were seen before")
