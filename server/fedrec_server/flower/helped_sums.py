"""The server's side of a secure sum whose masks a helper keeps: one question to each node, one to the helper.

The server sees masked vectors and sealed seeds. The helper opens one set of survivors for each charge, so the set is
closed before it is asked; while it is away, the same request is made again until the round's deadline.

Where server and helper add the noise, each adds all of it to its own half: the server to the masked sum, before it asks
the helper; the helper to the masks. So no party ever has a sum with less than one whole noise of the other.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Shared
from fedrec.errors import FedrecError, VerificationError
from fedrec.privacy.discrete.stream import WordStream
from fedrec.run import masked
from fedrec.run.federation import RoundVoid
from fedrec.secagg import HelperInput, HelperServer, Opening, Void
from fedrec.wire import Packet
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.messenger import TooFewNodes
from fedrec_server.flower.secure_questions import RoundQuestions, SecureRun
from fedrec_server.helper.link import HelperAccess, HelperAway, HelperRefused
from fedrec_server.helper.messages import CosignRequest, HelperAnswer, RoundRequest

TRIES = 2
"""Most questions to a node in one round: the second has what the first one lacked, as a card, a proof or a tensor."""
CARD_NOTE, NOTE = "witness-helper-card.note", "witness-helper.note"
"""Checkpoints that the helper cosigned, in the folder of the ledger: that of the run card, and the last one."""


class HelpedSums:
    """The secure sums of one run with a helper.

    Args:
        run: its nodes, integers and deadlines.
        helper: keeps the masks.
        words: makes the secret words of each draw of the server's own noise. Only a test gives other ones.

    Attributes:
        absences: nodes that were missing in a sum, over all rounds.
    """

    def __init__(
        self, run: SecureRun, helper: HelperAccess, words: Callable[[], WordStream] = WordStream.fresh
    ) -> None:
        self._run, self.helper, self._words = run, helper, words
        self._holds: dict[int, dict[str, str]] = {}
        self._seen = 0
        self.absences = 0

    def cosigned(self, ledger: LedgerQuestions, until: float) -> None:
        """Have the helper cosign the run card, unless it has done so.

        Args:
            ledger: the run's, with a first record.
            until: deadline by the monotonic clock.
        Raises: HelperAway; HelperRefused; VerificationError for a cosignature that is none.
        """
        key = self.helper.named.key
        if ledger.cosigned(every=[key]):
            return
        card, roster = ledger.card_now(), tuple(self._run.roster.keys)
        answer = self._grown(ledger, lambda growth: self.helper.cosign(CosignRequest(card, growth, roster), until))
        self._keep(answer, ledger, CARD_NOTE)
        ledger.cosigned(every=[key])

    def totals(
        self,
        ledger: LedgerQuestions,
        shared: Shared,
        digests: Mapping[str, str],
        round_index: int,
        parts: Mapping[int, np.ndarray],
    ) -> dict[str, Tensor]:
        """Return the sums of the nodes that stayed, with all noise: of their users, or of server and helper.

        Args:
            ledger: the run's ledger, at this round.
            shared: the public state.
            digests: of its tensors.
            round_index: from 0.
            parts: by node, positions of its users who are asked.

        Raises: RoundVoid where nothing was opened; TooFewNodes where too few nodes are there, or accept the run;
            HelperAway; HelperRefused.
        """
        counts = tuple(len(parts[n]) for n in sorted(parts))
        least, config, messenger = self._run.discrete.shares.least, self._run.config, self._run.messenger
        if sum(counts) < least:
            raise RoundVoid(f"round {round_index}: the cohort has fewer than {least} users")
        self.helper.there(messenger.clock() + config.patience)
        layout, asked = self._run.layout(round_index), self._run.asked(ledger, counts)
        this_round = asked.round(self._run.roster, layout, self.helper.named.seeds)
        server = HelperServer(this_round, self._run.roster)
        survivors = self._collect(server, ledger, shared, digests, round_index, parts, counts)
        users = sum(counts[n] for n in survivors)
        if users < least:
            what = "a sum" if self._run.discrete.shares.by_aggregators else "noise"
            raise RoundVoid(f"round {round_index}: {what} of {users} users arrived; the run counts {least}")
        if self._run.discrete.shares.by_aggregators:
            server.add_noise(layout.vector(self._own_noise(round_index)))
        request = server.request(ledger.charge_proof.encode())
        if isinstance(request, Void):
            raise RoundVoid(f"round {round_index}: the secure sum is void ({request.reason})")
        run, opening = ledger.card.run, request.encode()
        until = messenger.clock() + config.deadline + config.patience  # the nodes' part is done: it is worth waiting

        def ask(growth: str) -> HelperAnswer:
            return self.helper.open(RoundRequest(run, round_index, asked.question, counts, growth, opening), until)

        try:
            answer = self._grown(ledger, ask)
        except HelperAway as error:
            raise RoundVoid(f"round {round_index}: the secure sum is void ({error})") from None
        try:
            total = server.total(Opening.decode(answer.opening))
        except FedrecError as error:
            raise RoundVoid(f"round {round_index}: the secure sum is void (the helper's answer: {error})") from None
        if isinstance(total, Void):
            raise RoundVoid(f"round {round_index}: the secure sum is void ({total.reason})")
        self._keep(answer, ledger, NOTE)
        self.absences += self._run.arrived(round_index, users, len(total.survivors), len(counts))
        return layout.sums(total.vector)

    def _own_noise(self, round_index: int) -> dict[str, Tensor]:
        """Draw the server's own noise of each sum, where server and helper add it, int64 modulo 2^b."""
        made, found = self._run.discrete, {}
        for name in made.rounds[round_index]:
            zeros = torch.zeros(made.total_shape(round_index, name), dtype=torch.int64)
            found[name] = made.with_noise(round_index, name, zeros, 1, self._words())
        return found

    def _collect(
        self,
        server: HelperServer,
        ledger: LedgerQuestions,
        shared: Shared,
        digests: Mapping[str, str],
        round_index: int,
        parts: Mapping[int, np.ndarray],
        counts: tuple[int, ...],
    ) -> list[int]:
        """Ask the nodes, give what they send to the round's server, and return those that answered."""
        questions, least = RoundQuestions(self._run, ledger, digests, round_index, parts), server.round.min_cohort
        due, answered, ids = questions.there(least), [], self._run.directory.ids
        for _ in range(TRIES):
            packets = {n: self._question(questions, n, shared, digests, counts) for n in sorted(due)}
            due = set()
            for n, packet in questions.answers(packets, masked.HELPED, due):
                message = questions.read(n, packet, HelperInput, _sender, masked.masked_content)
                if message is not None and questions.taken(n, packet, partial(server.masked, message)):
                    self._holds[ids[n]] = dict(digests)
                    answered.append(n)
            for n in due:  # it may have lost its tensors; the next message contains all
                self._holds.pop(ids[n], None)
        if len(counts) - len(due) < least:  # asking again would spend the budget on nodes that do not accept the run
            why = f" (a node refused: {questions.why})" if questions.why else ""
            raise TooFewNodes(
                f"round {round_index}: {len(answered)} of {len(counts)} nodes took part in the secure sum, at least "
                f"{least} are needed{why}; finished rounds are saved: check the nodes and continue with --resume"
            )
        return answered

    def _question(
        self, questions: RoundQuestions, n: int, shared: Shared, digests: Mapping[str, str], counts: tuple[int, ...]
    ) -> Packet:
        held = self._holds.get(self._run.directory.ids[n], {})
        sent = {name: tensor for name, tensor in shared.items() if held.get(name) != digests[name]}
        return masked.ask_helped(questions.whole(n, sent), self._run.roster, counts)

    def _grown(self, ledger: LedgerQuestions, ask: Callable[[str], HelperAnswer]) -> HelperAnswer:
        """Return the helper's answer to a question with a proof of growth from what it saw last."""
        try:
            answer = ask(ledger.growth(self._seen))
        except HelperRefused as error:
            if error.seen is None:
                raise
            answer = ask(ledger.growth(error.seen))
        self._seen = ledger.records
        return answer

    def _keep(self, answer: HelperAnswer, ledger: LedgerQuestions, name: str) -> None:
        """Keep a cosigned checkpoint with the ledger. Raises: VerificationError for one that is none of this state."""
        if not ledger.keep_note(answer.note, self.helper.named.key, name):
            raise VerificationError(f"{self.helper.named.address}: the helper's cosignature does not hold")


def _sender(message: HelperInput) -> int:
    return message.seed.sender
