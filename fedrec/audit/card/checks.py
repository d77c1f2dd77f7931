"""Checks of a run card that a server sent: what arrives is hostile until it is checked.

Each fault is a `CardRefused`: one line, with one word for the server, that quotes nothing but the public card.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from fedrec.audit.card.card import CardRefused, RunCard
from fedrec.audit.card.reading import read_card
from fedrec.audit.log import checkpoint as checkpoint_note
from fedrec.audit.log import proofs
from fedrec.audit.log.keys import PREFIX, PublicKey, public_key
from fedrec.errors import InputError, VerificationError

MOST_BYTES = 1 << 20
"""Bytes of a card with its proof."""


def check_card(proof: str, keys: Sequence[PublicKey], now: datetime, witnesses: Sequence[PublicKey] = ()) -> RunCard:
    """Check a card from a server, and return its content: as `open_card`, and it has not expired.

    Args:
        proof: the card's text.
        keys: pinned keys of ledgers.
        now: a time with a zone.
        witnesses: keys of witnesses, one of which must have cosigned; empty to demand none.
    Raises: CardRefused, one line.
    """
    card = open_card(proof, keys, witnesses)
    card.check_time(now)
    return card


def open_card(proof: str, keys: Sequence[PublicKey], witnesses: Sequence[PublicKey] = ()) -> RunCard:
    """Check all of a card but its time, and return its content.

    1. It is at most `MOST_BYTES` long, and a proof of one record under a signed checkpoint.
    2. The signer of checkpoint and record is a pinned key.
    3. One of `witnesses` cosigned the checkpoint, where there are any.
    4. The record is number 0, of the checkpoint's run, and names the key that signed it.
    5. Every field has its type and lies within its bounds; the groups of rounds cover every round once.

    Args:
        proof: the card's text.
        keys: pinned keys of ledgers.
        witnesses: keys of witnesses, one of which must have cosigned; empty to demand none.
    Raises: CardRefused, one line.
    """
    proven, key = open_proof(proof, keys)
    record = proven.record
    if record is None or record.index != 0 or record.key_id != key.id or not record.signed_by(key):
        raise CardRefused("card", "the run card is not record 0 of a ledger, signed by the ledger's key")
    if witnesses and not any(proven.checkpoint.cosigned_at(each) is not None for each in witnesses):
        raise CardRefused("witness", "no witness of this node has cosigned the run card's checkpoint")
    return read_card(record, proven.checkpoint, key)


def open_proof(proof: str, keys: Sequence[PublicKey], code: str = "card") -> tuple[proofs.Proven, PublicKey]:
    """Check a proof under one of `keys`.

    Args:
        proof: its text, of at most `MOST_BYTES`.
        keys: pinned keys of ledgers.
        code: the word of a refusal of what is no valid proof; `key` where no pinned key signed it.
    Returns: its content, and the key.
    Raises: CardRefused.
    """
    try:
        if len(proof) > MOST_BYTES or len(proof.encode()) > MOST_BYTES:
            raise CardRefused(code, f"a proof of more than {MOST_BYTES} bytes")
        sealed = checkpoint_note.parsed(proof.partition("\n\n")[2])
    except ValueError:  # a text that is no Unicode, too
        raise CardRefused(code, "a proof without a checkpoint of a ledger") from None
    signer = next((key for key in keys if sealed.signed_by(key)), None)
    if signer is None:
        raise CardRefused("key", "the run's ledger is signed by no key that this node has pinned")
    try:
        return proofs.check(proof, signer), signer
    except (InputError, VerificationError, RecursionError) as error:
        raise CardRefused(code, str(error) or "a proof that is nested too deep") from None


def read_signer(proof: str) -> list[PublicKey]:
    """Return the key that a card names as its signer, unchecked: for a device that pins the first key that it sees.

    Returns: the key, or nothing where the text names none.
    """
    try:
        record = proof[:MOST_BYTES].split("\n")[1]
        key = json.loads(record)["predicate"]["payload"]["parties"][0]["key"]
        return [public_key(key)] if isinstance(key, str) and key.startswith(PREFIX) else []
    except (ValueError, LookupError, TypeError, RecursionError, InputError):
        return []
