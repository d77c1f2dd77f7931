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

Terms = Callable[[Round, dict[str, Any]], bool]
"""Whether the terms in a charge's payload are those of a round."""


class LedgerCharges:
    """The charges of one run. The number of a round is the position of its charge in the ledger.

    So a round that is tried again, which is charged again, has a new number by itself.

    Args:
        card: SHA-256 of its run card; rounds under another card have no charge here.
        run: its id.
        key: of its ledger.
        witnesses: keys whose cosignatures count.
        terms: the check of the charge against the round: its sums, their integers and noise are the round's.
        least: cosignatures that a checkpoint must have.
    """

    def __init__(
        self,
        card: bytes,
        run: str,
        key: PublicKey,
        witnesses: Sequence[PublicKey],
        terms: Terms,
        least: int = 1,
    ) -> None:
        self.card, self.run, self.key = card, run, key
        self.witnesses, self.least, self.terms = tuple(witnesses), least, terms

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
        if record.index != this_round.number or record.payload.get("type") != "charge":
            raise Refused(f"{where}: record {record.index} of the ledger is not its charge")
        if not self.terms(this_round, record.payload):
            raise Refused(f"{where}: its charge is on other terms")
        seen = sum(sealed.cosigned_at(key) is not None for key in self.witnesses)
        if seen < self.least:
            raise Refused(f"{where}: {seen} known witnesses cosigned the ledger; at least {self.least} are needed")
