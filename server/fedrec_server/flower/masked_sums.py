"""The server's side of a secure sum over nodes: stages of questions, and one total or a void round.

The first round has five stages. The keys of the next round travel with it, so that the next one has three, where every
node that is there has made them. A node that fails at a stage has dropped: it is asked nothing more in this round. The
server never sees one node's sum, so no check of its size exists; a message that does not fit the protocol counts as
none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from fedrec.algorithms.base import Shared
from fedrec.run import masked
from fedrec.run.federation import RoundVoid
from fedrec.secagg import Advertise, Confirmation, MaskedInput, PeerServer, Shares, Survivors, Unmasking, Void
from fedrec.wire import Packet, WireError
from fedrec_server.flower.keys_ahead import KeysAhead, Ready
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.messenger import TooFewNodes
from fedrec_server.flower.secure_questions import RoundQuestions, SecureRun, Sent

TRIES = 2
"""Most first questions to a node in one round: the second has what the first one lacked, as a card or a proof."""

LACKED = ("card", "head", "missing")
"""Refusals of a masked vector that the second question may mend."""

Ended = TypeVar("Ended")


class MaskedSums:
    """The secure sums of one run.

    Args:
        run: its nodes, integers and deadlines.

    Attributes:
        absences: nodes that were missing in a sum, over all rounds.
        ready: keys for the next round; None where the nodes must advertise some first.
    """

    def __init__(self, run: SecureRun) -> None:
        self._run = run
        self.absences = 0
        self.ready: Ready | None = None

    def totals(
        self,
        ledger: LedgerQuestions,
        shared: Shared,
        digests: Mapping[str, str],
        round_index: int,
        parts: Mapping[int, np.ndarray],
    ) -> dict[str, Tensor]:
        """Return the sums of the nodes that stayed, with the noise of their users.

        Args:
            ledger: the run's ledger, at this round.
            shared: the public state.
            digests: of its tensors.
            round_index: from 0.
            parts: by node, positions of its users who are asked.

        Raises: RoundVoid where nothing was opened; TooFewNodes where too few are there to begin.
        """
        counts = tuple(len(parts[n]) for n in sorted(parts))
        least = self._run.discrete.shares.least
        if sum(counts) < least:
            raise RoundVoid(f"round {round_index}: the cohort has fewer than {least} users")
        return _Round(self, ledger, shared, digests, round_index, parts, counts).run()


class _Round:
    """One round."""

    def __init__(
        self,
        owner: MaskedSums,
        ledger: LedgerQuestions,
        shared: Shared,
        digests: Mapping[str, str],
        round_index: int,
        parts: Mapping[int, np.ndarray],
        counts: tuple[int, ...],
    ) -> None:
        self._owner, self._run, self._ledger = owner, owner._run, ledger
        self._shared, self._digests, self._number, self._counts = shared, digests, round_index, counts
        self._questions = RoundQuestions(self._run, ledger, digests, round_index, parts)
        self._layout = self._run.layout(round_index)
        self._asked = self._run.asked(ledger, counts)
        self._charge = self._asked.charge
        self._round = self._asked.round(self._run.roster, self._layout)
        self._server = PeerServer(self._round, self._run.roster)
        self._ahead = KeysAhead(self._round, self._run.roster)
        self._held: dict[int, dict[str, str]] = {}

    def run(self) -> dict[str, Tensor]:
        boxes = self._boxes_of(self._questions.there(self._round.min_cohort))
        self._mask({n: box.encode() for n, box in boxes.items()})
        survivors = self._ended(self._server.survivors())
        users, least = sum(self._counts[n] for n in survivors.members), self._run.discrete.shares.least
        if users < least:
            raise RoundVoid(f"round {self._number}: noise of {users} users arrived; the run counts {least}")
        confirmations = self._ended(self._server.confirmed(self._confirmed(survivors)))
        asked = {n: each.encode() for n, each in confirmations.items()}
        opened = self._stage(masked.UNMASK, asked, Unmasking, _sender)
        total = self._ended(self._server.unmasked(message for _, _, message in opened))
        self._owner.absences += self._run.arrived(self._number, users, len(total.survivors), len(self._counts))
        return self._layout.sums(total.vector)

    def _boxes_of(self, there: set[int]) -> Mapping[int, Shares]:
        """Return the sealed shares for each node, of keys that were made ahead, or of new ones."""
        ready, self._owner.ready = self._owner.ready, None
        if ready is not None and ready.made_by(there, self._run.directory.ids):
            self._asked = replace(self._asked, ahead=ready.server.keys.number)
            self._round = self._asked.round(self._run.roster, self._layout)
            self._server, self._held = ready.server, {n: dict(ready.held) for n in ready.boxes}
            self._server.begin(self._round)
            return {n: box for n, box in ready.boxes.items() if n in there}
        began = self._advertised(there)
        if len(began) < self._round.min_cohort:  # asking again would spend the budget on nodes that are not there
            why = f" (a node refused: {self._questions.why})" if self._questions.why else ""
            raise TooFewNodes(
                f"round {self._number}: {len(began)} of {len(self._counts)} nodes began the secure sum, at least "
                f"{self._round.min_cohort} are needed{why}; finished rounds are saved: check the nodes and continue "
                "with --resume"
            )
        keys = self._ended(self._server.advertised(began))
        given = self._stage(masked.SHARE, {n: keys[n].encode() for n in keys}, Shares, lambda each: each.member)
        return self._ended(self._server.shared(message for _, _, message in given))

    def _confirmed(self, survivors: Survivors) -> list[Confirmation]:
        """Return the nodes' signatures of the survivors; those that offered keys share them ahead."""
        text, keys, found = survivors.encode(), self._ahead.lists(), []
        for n, packet, message in self._stage(
            masked.CONFIRM, dict.fromkeys(survivors.members, text), Confirmation, _sender, keys
        ):
            self._ahead.shared(n, packet)
            found.append(message)
        self._owner.ready = self._ahead.ready(self._run.directory.ids, self._digests)
        return found

    def _ended(self, found: "Ended | Void") -> "Ended":
        if isinstance(found, Void):
            raise RoundVoid(f"round {self._number}: the secure sum is void ({found.reason})")
        return found

    def _advertised(self, due: set[int]) -> list[Advertise]:
        found = []
        for _ in range(TRIES):
            packets = {
                n: masked.ask_advertise(self._questions.whole(n, {}), self._run.roster, self._counts)
                for n in sorted(due)
            }
            due = set()
            for n, packet in self._questions.answers(packets, masked.ADVERTISE, due):
                message = self._questions.read(n, packet, Advertise, _sender)
                if message is not None:
                    self._ledger.admitted(self._run.directory.ids[n])
                    self._held[n] = _held(packet)
                    found.append(message)
        return found

    def _mask(self, boxes: Mapping[int, bytes]) -> None:
        """Ask for masked vectors, and add them. Keys for the next round come with them."""
        due = set(boxes)
        for _ in range(TRIES):
            packets: dict[int, Packet] = {}
            for n in sorted(due):
                held = self._held.get(n, {})
                sent = {name: each for name, each in self._shared.items() if held.get(name) != self._digests[name]}
                question = self._questions.whole(n, sent)
                packets[n] = masked.ask_masked(question, self._counts, boxes[n], self._asked.ahead)
            refused: set[int] = set()
            for n, packet in self._questions.answers(packets, masked.MASKED, refused):
                message = self._questions.read(n, packet, MaskedInput, _sender, masked.masked_content)
                if message is not None and self._questions.taken(n, packet, partial(self._server.masked, message)):
                    self._ahead.offered(n, packet)
            due = {n for n in refused if self._questions.codes[n] in LACKED}
            self._held = {n: held for n, held in self._held.items() if n not in due}

    def _stage(
        self,
        kind: str,
        messages: Mapping[int, bytes],
        read: type[Sent],
        sender: Callable[[Any], int],
        following: Mapping[int, bytes] | None = None,
    ) -> list[tuple[int, Packet, Sent]]:
        """Return the answers of a stage that fit, and their messages. following: keys of the next round, by node."""
        more, found = following or {}, []
        packets = {
            n: masked.ask_stage(kind, self._run.fingerprint, self._number, self._charge, message, more.get(n))
            for n, message in messages.items()
        }
        for n, packet in self._questions.answers(packets, kind, set()):
            message = self._questions.read(n, packet, read, sender)
            if message is not None:
                found.append((n, packet, message))
        return found


def _sender(message: Any) -> int:
    found: int = message.sender
    return found


def _held(packet: Packet) -> dict[str, str]:
    """Return the digests of the tensors that a node says it holds."""
    try:
        found = json.loads(packet.fact(masked.HELD, str))
    except (ValueError, RecursionError, WireError):
        return {}
    return found if isinstance(found, dict) else {}
