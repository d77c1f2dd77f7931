"""A helper's check that a round is charged in the run's own ledger.

The charge arrives as the proof that `fedrec.audit.log.proofs.of_record` makes: the record, its audit path, and a signed
checkpoint with the cosignatures of witnesses. A helper that is a witness itself gives its own key as one of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fedrec.audit.log import proofs
from fedrec.audit.log.keys import PublicKey
from fedrec.errors import FedrecError
from fedrec.secagg.outcome import Refused
from fedrec.secagg.round import Round

Belongs = Callable[[Round, dict[str, Any]], bool]
"""Whether a record's payload is the charge of a round."""


def same_number(this_round: Round, payload: dict[str, Any]) -> bool:
    """Return whether the payload is a charge with the round's number."""
    return payload.get("type") == "charge" and payload.get("round") == this_round.number


class LedgerCharges:
    """The charges of one run.

    Args:
        card: SHA-256 of its run card; rounds under another card have no charge here.
        run: its id.
        key: of its ledger.
        witnesses: keys whose cosignatures count.
        least: cosignatures that a checkpoint must have.
        belongs: which record is the charge of a round.
    """

    def __init__(
        self,
        card: bytes,
        run: str,
        key: PublicKey,
        witnesses: Sequence[PublicKey],
        least: int = 1,
        belongs: Belongs = same_number,
    ) -> None:
        self.card, self.run, self.key = card, run, key
        self.witnesses, self.least, self.belongs = tuple(witnesses), least, belongs

    def __call__(self, this_round: Round, charge: bytes) -> None:
        """Return where the charge is in the cosigned ledger. Raises: Refused."""
        where = f"round {this_round.number}"
        if this_round.card != self.card:
            raise Refused(f"{where}: is of another run card")
        try:
            proven = proofs.check(charge.decode("utf-8"), self.key)
        except (FedrecError, UnicodeDecodeError) as error:
            raise Refused(f"{where}: no proof of its charge: {error}") from None
        record, sealed = proven.record, proven.checkpoint
        if record is None or sealed.run != self.run:
            raise Refused(f"{where}: the proof is not of a record of the run {self.run}")
        if not self.belongs(this_round, record.payload):
            raise Refused(f"{where}: record {record.index} of the ledger is not its charge")
        seen = sum(sealed.cosigned_at(key) is not None for key in self.witnesses)
        if seen < self.least:
            raise Refused(f"{where}: {seen} known witnesses cosigned the ledger; at least {self.least} are needed")
