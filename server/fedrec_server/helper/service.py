"""The helper: it cosigns a run's ledger while it only grows, and opens the masks of one survivor set for each charge.

| a server that | gets |
|---|---|
| shows a card that names another helper, has expired, or has a signer that is not pinned | no cosignature |
| shows a second card of a run, or other keys of nodes than the card's roster | no cosignature |
| cuts its ledger back, forks it, or does not prove its growth | no cosignature, nothing; the two heads are kept |
| asks for a round that is not charged, or whose sums, integers or numbers of users are not the charge's | nothing |
| asks for a second survivor set, or another question, under one charge | nothing |
| brings seeds that no node of the roster signed, or too few nodes, or too few users | nothing |

In runs whose noise server and helper add, what it opens has its own whole noise (`fedrec_server.helper.noise`).

It sees seeds and no vector. All its checks are of public, signed facts, so a refusal says which one failed.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from fedrec.audit.card.card import CardRefused, QueryTerms, RunCard
from fedrec.audit.card.checks import check_card, read_signer
from fedrec.audit.card.question import Forked, check_growth, check_question
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.log.witness import Witness
from fedrec.errors import FedrecError
from fedrec.run.secure_round import model_digest
from fedrec.secagg import Helper, OpenRequest, Refused, Roster, Round
from fedrec.secagg.charges import LedgerCharges
from fedrec.secagg.file_journal import FileJournal
from fedrec_server.helper.keys import HelperKeys
from fedrec_server.helper.messages import CosignRequest, HelperAnswer, RoundRequest
from fedrec_server.helper.noise import HelperNoise
from fedrec_server.helper.runs import HelperRuns, KnownRun

Checked = TypeVar("Checked")
NAME = "fedrec-helper"
"""Name in the cosignatures."""
MOST_NUMBERS = 1 << 27
"""Integers of all sums of a round: a gigabyte while they are added."""


class HeadUnknown(Refused):
    """A proof of growth from another state than was cosigned last. seen: records that were cosigned."""

    def __init__(self, message: str, seen: int) -> None:
        super().__init__(message)
        self.seen = seen


class HelperService:
    """The helper behind its transport; one process at a time has its folder.

    Args:
        folder: what it remembers (`HelperRuns`).
        keys: its own.
        ledgers: public keys of ledgers that it serves; empty for all whose card names it.
        min_nodes: own least number of nodes in a sum, whatever a run says.
        now: the clock, with a zone.
    """

    def __init__(
        self,
        folder: Path,
        keys: HelperKeys,
        *,
        ledgers: Sequence[PublicKey] = (),
        min_nodes: int = 2,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys, self._ledgers, self._min_nodes, self._now = keys, tuple(ledgers), min_nodes, now
        self._runs, self._journal = HelperRuns(folder / "runs"), FileJournal(folder / "opened")
        self._witness = Witness(keys.signing, NAME, folder / "witness")
        self._lock = Lock()

    @property
    def key(self) -> PublicKey:
        """The helper's public key."""
        return self._keys.signing.public

    def cosign(self, asked: CosignRequest) -> HelperAnswer:
        """Take up a run, or look at its ledger again, and cosign the checkpoint that its card is under.

        Raises: Refused; HeadUnknown where the proof of growth should start from another state.
        """
        with self._lock:
            try:
                signers = self._ledgers or read_signer(asked.card)
                card, roster = check_card(asked.card, signers, self._now()), _roster(asked.roster)
                self._check_card(card, roster)
                known = self._runs.find(card.run)
                if known is None:
                    self._runs.keep(asked.card, KnownRun(card, roster))
                elif known.card.digest != card.digest:
                    raise Refused(f"run {card.run}: this helper knows another run card of this run")
                return HelperAnswer(self._cosigned(card, card.checkpoint, asked.growth).note)
            except CardRefused as error:
                raise Refused(str(error)) from None

    def open(self, asked: RoundRequest) -> HelperAnswer:
        """Cosign the ledger with the charge of a round, and return the sum of the masks of its survivors.

        Raises: Refused; HeadUnknown where the proof of growth should start from another state; Malformed.
        """
        request = OpenRequest.decode(asked.opening)
        with self._lock:
            run = self._runs.find(asked.run)
            if run is None:
                raise Refused(f"run {asked.run}: not taken up; the server shows its card first")
            card, where = run.card, f"round {asked.round_index}"
            try:
                card.check_time(self._now())
                charge = request.charge.decode("utf-8")
                seen = self._seen(card.run)
                paid = self._grown(card, lambda: check_question(card, seen, asked.round_index, charge, asked.growth))
                cosigned = self._cosigned(card, paid.checkpoint, asked.growth)
            except CardRefused as error:
                raise Refused(str(error)) from None
            except UnicodeDecodeError:
                raise Refused(f"{where}: no proof of its charge") from None
            users = _users(request, asked.counts)
            if users < card.least:
                what = "a sum" if card.by_aggregators else "noise"
                raise Refused(f"{where}: {what} of {users} users; the run counts {card.least}")
            proof = charge.partition("\n\n")[0] + "\n\n" + cosigned.note
            own = [self._keys.signing.public]
            charges = LedgerCharges(bytes.fromhex(card.digest), card.run, card.key, own, _terms(run, asked))
            helper = Helper(self._keys.seeds, run.roster, charges, self._journal, self._min_nodes)
            opening = helper.open(replace(request, charge=proof.encode()))
            if card.by_aggregators:
                opening = HelperNoise(self._keys.signing).added(
                    opening, card.terms(asked.round_index), request.round.bits
                )
            return HelperAnswer(cosigned.note, opening.encode())

    def _check_card(self, card: RunCard, roster: Roster) -> None:
        own, where = self._keys.public.helper, f"run {card.run}"
        named = card.helper
        if named is None or (named.key, named.seeds) != (own.key, own.seeds):
            raise Refused(f"{where}: its card does not name this helper")
        if card.roster != roster.root.hex() or card.nodes != len(roster.keys):
            raise Refused(f"{where}: the nodes' keys are not those of its card")
        sizes = [sum(query.integers.dimension for query in row if query.integers is not None) for row in card.groups]
        if max(sizes, default=0) > MOST_NUMBERS:
            raise Refused(f"{where}: more than {MOST_NUMBERS} integers in a round")

    def _seen(self, run: str) -> Checkpoint:
        return Checkpoint(run, *self._witness.seen(run))

    def _cosigned(self, card: RunCard, sealed: Checkpoint, growth: str) -> Checkpoint:
        seen = self._seen(card.run)
        self._grown(card, lambda: check_growth(card, seen, sealed, growth))
        return self._witness.cosign(sealed, (seen.size, seen.root), int(time.time()))

    def _grown(self, card: RunCard, check: Callable[[], Checked]) -> Checked:
        """Return what a check of growth returns; a contradiction is kept."""
        try:
            return check()
        except Forked as error:
            self._runs.contradiction(card.run, *error.evidence)
            raise Refused(str(error)) from None
        except CardRefused as error:
            if error.code == "head":
                raise HeadUnknown(str(error), self._seen(card.run).size) from None
            raise


def _terms(run: KnownRun, asked: RoundRequest) -> Callable[[Round, Mapping[str, Any]], bool]:
    """Return the check that a round is the one that was charged: all of it that follows from card and charge.

    The charge's own row was compared with the card's before (`check_question`).
    """
    queries = [_query(query) for query in run.card.terms(asked.round_index)]
    bits, length = max((bits for _, bits, _ in queries), default=0), sum(math.prod(shape) for _, _, shape in queries)
    nodes = len(run.roster.keys)

    def same(this_round: Round, charge: Mapping[str, Any]) -> bool:
        model = model_digest(asked.question, asked.counts, queries)
        given = (this_round.bits, this_round.length, this_round.model, this_round.cohort)
        return charge.get("round") == asked.round_index and given == (bits, length, model, tuple(range(nodes)))

    return same


def _query(query: QueryTerms) -> tuple[str, int, tuple[int, ...]]:
    """Return name, bits and shape of a sum of integers."""
    sent = query.integers
    if sent is None:
        raise Refused(f"query '{query.name}': users do not add its noise")
    return query.name, sent.bits, query.shape if sent.encoding == "plain" else (sent.dimension,)


def _users(request: OpenRequest, counts: tuple[int, ...]) -> int:
    """Return how many users the survivors have. Raises: Refused for a survivor without a number."""
    senders = [each.sender for each in request.seeds]
    if any(sender >= len(counts) for sender in senders):
        raise Refused(f"round {request.round.number}: a survivor without a number of users")
    return sum(counts[sender] for sender in senders)


def _roster(keys: tuple[bytes, ...]) -> Roster:
    try:
        return Roster(keys)
    except FedrecError as error:
        raise Refused(str(error)) from None
