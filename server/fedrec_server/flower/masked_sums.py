"""The server's side of a secure sum over nodes: five stages of questions, and one total or a void round.

A node that fails at a stage has dropped: it is asked nothing more in this round. The server never sees one node's sum,
so no check of its size exists; a message that does not fit the protocol counts as none.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from torch import Tensor

from fedrec import wire
from fedrec.algorithms.base import Shared
from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.federation.exchange import DataRequest
from fedrec.federation.spec import RunSpec
from fedrec.privacy.skellam_noise import SkellamNoise
from fedrec.run import masked
from fedrec.run.federation import FederationConfig, RoundVoid
from fedrec.run.masked import Asked, Layout
from fedrec.secagg import Advertise, Confirmation, MaskedInput, PeerServer, Roster, Shares, Unmasking, Void
from fedrec.wire import Packet, WireError
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.messenger import Messenger, TooFewNodes, log
from fedrec_server.flower.nodes import NodeDirectory, refused_by_node

TRIES = 2
"""Most first questions to a node in one round: the second has what the first one lacked, as a card or a proof."""


class Message(Protocol):
    """A message of a node."""

    @classmethod
    def decode(cls, data: bytes) -> Self: ...


Sent = TypeVar("Sent", bound=Message)
Ended = TypeVar("Ended")


class MaskedSums:
    """The secure sums of one run.

    Args:
        messenger: the messenger that reaches the nodes.
        directory: the nodes of the run, with their keys for masks.
        spec: the run's description.
        discrete: integers and noise shares of the run.
        config: deadlines, and the least number of nodes to begin a round with.
        request: which data the run is about.

    Attributes:
        absences: nodes that were missing in a sum, over all rounds.
    """

    def __init__(
        self,
        messenger: Messenger,
        directory: NodeDirectory,
        spec: RunSpec,
        discrete: SkellamNoise,
        config: FederationConfig,
        request: DataRequest,
    ) -> None:
        self._messenger, self._directory, self._spec, self._discrete = messenger, directory, spec, discrete
        self._config, self._request, self._roster = config, request, Roster(directory.masks)
        self._text, self._fingerprint = spec.text(), spec.fingerprint
        self.absences = 0

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
        least = self._discrete.shares.least
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
        self._owner, self._ledger, self._shared, self._digests = owner, ledger, shared, digests
        self._number, self._parts, self._counts = round_index, parts, counts
        self._messenger, self._directory = owner._messenger, owner._directory
        discrete, noise = owner._discrete, owner._spec.noise
        assert noise is not None
        names = discrete.rounds[round_index]
        self._layout = Layout(
            tuple(
                (name, discrete.encoding(round_index, name).bits, discrete.total_shape(round_index, name))
                for name in names
            )
        )
        question, self._charge = ledger.asked
        asked = Asked(ledger.card.digest, question, self._charge, counts, noise.dropout or 0.0, noise.colluding or 0.0)
        self._round = asked.round(owner._roster, self._layout)
        self._server = PeerServer(self._round, owner._roster)
        self._held: dict[int, dict[str, str]] = {}
        self._why = ""

    def run(self) -> dict[str, Tensor]:
        began = self._advertised()
        if len(began) < self._round.min_cohort:  # asking again would spend the budget on nodes that are not there
            why = f" (a node refused: {self._why})" if self._why else ""
            raise TooFewNodes(
                f"round {self._number}: {len(began)} of {len(self._counts)} nodes began the secure sum, at least "
                f"{self._round.min_cohort} are needed{why}; finished rounds are saved: check the nodes and continue "
                "with --resume"
            )
        keys = self._ended(self._server.advertised(began))
        given = self._stage(masked.SHARE, {n: keys[n].encode() for n in keys}, Shares, lambda each: each.member)
        boxes = self._ended(self._server.shared(message for _, message in given))
        self._mask({n: box.encode() for n, box in boxes.items()})
        survivors = self._ended(self._server.survivors())
        users, least = sum(self._counts[n] for n in survivors.members), self._owner._discrete.shares.least
        if users < least:
            raise RoundVoid(f"round {self._number}: noise of {users} users arrived; the run counts {least}")
        text = survivors.encode()
        signed = self._stage(masked.CONFIRM, dict.fromkeys(survivors.members, text), Confirmation, _sender)
        confirmations = self._ended(self._server.confirmed(message for _, message in signed))
        asked = {n: each.encode() for n, each in confirmations.items()}
        opened = self._stage(masked.UNMASK, asked, Unmasking, _sender)
        total = self._ended(self._server.unmasked(message for _, message in opened))
        absent = len(self._counts) - len(total.survivors)
        self._owner.absences += absent
        if absent:
            log.warning("round %d: continues without %d of %d nodes", self._number, absent, len(self._counts))
        self._owner._discrete.noise_arrived(self._number, users)
        return self._layout.sums(total.vector)

    def _ended(self, found: "Ended | Void") -> "Ended":
        if isinstance(found, Void):
            raise RoundVoid(f"round {self._number}: the secure sum is void ({found.reason})")
        return found

    def _there(self) -> set[int]:
        """Return the nodes that are online, as soon as they are enough. Raises: TooFewNodes."""
        config, owner = self._owner._config, self._owner
        needed = max(self._round.min_cohort, config.min_nodes or self._round.min_cohort)
        start = self._messenger.clock()
        while True:
            until = start + config.deadline + config.patience
            there = self._directory.welcome(self._messenger, owner._request, owner._spec.catalogue, until)
            if len(there) >= needed:
                return there
            if self._messenger.clock() >= until:
                raise TooFewNodes(
                    f"round {self._number}: {len(there)} of {len(self._counts)} nodes are there, at least {needed} are "
                    "needed; finished rounds are saved: check the nodes and continue with --resume"
                )
            self._messenger.wait()

    def _question(self, n: int, sent: Mapping[str, Tensor]) -> Packet:
        node, users = self._directory.ids[n], self._directory.nodes[n].users
        whole = self._owner._discrete.config.sampling == 1
        return exchange.ask_sum(
            self._owner._text,
            self._owner._fingerprint,
            self._number,
            dict(self._digests),
            sent,
            None if whole else self._parts[n],
            users,
            self._ledger.proof(node),
        )

    def _advertised(self) -> list[Advertise]:
        due, found = self._there(), []
        for _ in range(TRIES):
            packets = {
                n: masked.ask_advertise(self._question(n, {}), self._owner._roster, self._counts) for n in sorted(due)
            }
            due = set()
            for n, packet in self._answers(packets, masked.ADVERTISE, due):
                message = self._read(n, packet, Advertise, _sender)
                if message is not None:
                    self._ledger.admitted(self._directory.ids[n])
                    self._held[n] = _held(packet)
                    found.append(message)
        return found

    def _mask(self, boxes: Mapping[int, bytes]) -> None:
        packets: dict[int, Packet] = {}
        for n, box in boxes.items():
            held = self._held.get(n, {})
            sent = {name: each for name, each in self._shared.items() if held.get(name) != self._digests[name]}
            packets[n] = masked.ask_masked(self._question(n, sent), box)
        for n, packet in self._answers(packets, masked.MASKED, set()):
            message = self._read(n, packet, MaskedInput, _sender)
            if message is None:
                continue
            try:
                self._ledger.answered(self._directory.ids[n], packet)
                self._server.masked(message)
            except WireError as error:
                self._dropped(n, error.code)
            except FedrecError:
                self._dropped(n, "stage")

    def _stage(
        self, kind: str, messages: Mapping[int, bytes], read: type[Sent], sender: Callable[[Any], int]
    ) -> list[tuple[int, Sent]]:
        packets = {
            n: masked.ask_stage(kind, self._owner._fingerprint, self._number, self._charge, message)
            for n, message in messages.items()
        }
        found = []
        for n, packet in self._answers(packets, kind, set()):
            message = self._read(n, packet, read, sender)
            if message is not None:
                found.append((n, message))
        return found

    def _answers(self, packets: Mapping[int, Packet], kind: str, refused: set[int]) -> Iterator[tuple[int, Packet]]:
        """Yield the nodes' answers. refused: nodes that refused are added here."""
        index = {self._directory.ids[n]: n for n in packets}
        records = {
            self._directory.ids[n]: wire.to_record(each, self._owner._config.download) for n, each in packets.items()
        }
        until = self._messenger.clock() + self._owner._config.deadline
        for node, packet in self._messenger.ask(records, "train", f"round {self._number}, {kind}", until):
            n = index[node]
            if packet.kind == exchange.REFUSAL and packet.version == wire.VERSION:
                self._ledger.refused(node, packet)
                error = refused_by_node(packet)
                self._why = str(error)
                self._dropped(n, error.code)
                refused.add(n)
                continue
            yield n, packet

    def _read(self, n: int, packet: Packet, read: type[Sent], sender: Callable[[Any], int]) -> Sent | None:
        """Return a node's message; None for one that does not fit, or is another node's."""
        try:
            content = masked.content(packet.expect(masked.MASKS, self._owner._fingerprint, self._number))
            message = read.decode(content)
            if sender(message) == n:
                return message
            self._dropped(n, "sender")
        except WireError as error:
            self._dropped(n, error.code)
        except FedrecError:
            self._dropped(n, "stage")
        return None

    def _dropped(self, n: int, why: str) -> None:
        self._messenger.dropped(why, f"round {self._number}", self._directory.ids[n])


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
