"""Questions of a secure sum to nodes, for any aggregator: who is there, what is sent, which answers count.

A node that refuses, or sends what does not fit the protocol, has dropped from the round.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from torch import Tensor

from fedrec import wire
from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.federation.spec import RunSpec
from fedrec.privacy.skellam_noise import SkellamNoise
from fedrec.run import masked
from fedrec.run.federation import FederationConfig
from fedrec.run.masked import Asked, Layout
from fedrec.secagg import Roster
from fedrec.wire import Packet, WireError
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.messenger import Messenger, TooFewNodes, log
from fedrec_server.flower.nodes import NodeDirectory, refused_by_node


class Message(Protocol):
    """A message of a node."""

    @classmethod
    def decode(cls, data: bytes) -> Self: ...


Sent = TypeVar("Sent", bound=Message)


@dataclass(frozen=True)
class SecureRun:
    """What all secure sums of a run have in common.

    Attributes:
        messenger: the messenger that reaches the nodes.
        directory: the nodes of the run, with their keys for masks.
        spec: the run's description, with noise.
        discrete: integers and noise shares of the run.
        config: deadlines, and the least number of nodes to begin a round with.
        request: which data the run is about.
    """

    messenger: Messenger
    directory: NodeDirectory
    spec: RunSpec
    discrete: SkellamNoise
    config: FederationConfig
    request: DataRequest

    @cached_property
    def roster(self) -> Roster:
        """The nodes' keys for masks, in their order."""
        return Roster(self.directory.masks)

    @cached_property
    def text(self) -> str:
        """Text of the run's description."""
        return self.spec.text()

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the run's description."""
        return self.spec.fingerprint

    def layout(self, round_index: int) -> Layout:
        """Return the vector of a round's sums."""
        made = self.discrete
        return Layout(
            tuple(
                (name, made.encoding(round_index, name).bits, made.total_shape(round_index, name))
                for name in made.rounds[round_index]
            )
        )

    def arrived(self, round_index: int, users: int, survivors: int, nodes: int) -> int:
        """Count the noise of a sum that was opened, and return how many nodes are missing in it.

        Args:
            round_index: from 0.
            users: whose noise arrived.
            survivors: nodes in the sum.
            nodes: nodes that were asked.
        """
        if absent := nodes - survivors:
            log.warning("round %d: continues without %d of %d nodes", round_index, absent, nodes)
        self.discrete.noise_arrived(round_index, users)
        return absent

    def asked(self, ledger: LedgerQuestions, counts: tuple[int, ...]) -> Asked:
        """Return what the ledger's round follows from. counts: users of each node who are asked."""
        assert self.spec.noise is not None
        question, charge = ledger.asked
        noise = self.spec.noise
        return Asked(ledger.card.digest, question, charge, counts, noise.dropout or 0.0, noise.colluding or 0.0)


class RoundQuestions:
    """The questions of one round.

    Args:
        run: of the round.
        ledger: the run's ledger, at this round.
        digests: of the shared tensors.
        number: position of the round, from 0.
        parts: by node, positions of its users who are asked.

    Attributes:
        why: text of the last refusal; "" for none.
        codes: word of the last refusal of each node.
    """

    def __init__(
        self,
        run: SecureRun,
        ledger: LedgerQuestions,
        digests: Mapping[str, str],
        number: int,
        parts: Mapping[int, np.ndarray],
    ) -> None:
        self.run, self.ledger, self.digests, self.number, self.parts = run, ledger, digests, number, parts
        self.why = ""
        self.codes: dict[int, str] = {}

    def there(self, least: int) -> set[int]:
        """Return the nodes that are online, as soon as they are enough. Raises: TooFewNodes.

        Args:
            least: fewest nodes whose sum is revealed.
        """
        run, config = self.run, self.run.config
        needed = max(least, config.min_nodes or least)
        start = run.messenger.clock()
        while True:
            until = start + config.deadline + config.patience
            there = run.directory.welcome(run.messenger, run.request, run.spec.catalogue, until)
            if len(there) >= needed:
                return there
            if run.messenger.clock() >= until:
                raise TooFewNodes(
                    f"round {self.number}: {len(there)} of {len(self.parts)} nodes are there, at least {needed} are "
                    "needed; finished rounds are saved: check the nodes and continue with --resume"
                )
            run.messenger.wait()

    def whole(self, n: int, sent: Mapping[str, Tensor]) -> Packet:
        """Return the `sum` question for a node. sent: the tensors that travel with it."""
        run, everybody = self.run, self.run.discrete.config.asked == 1
        return exchange.ask_sum(
            run.text,
            run.fingerprint,
            self.number,
            dict(self.digests),
            sent,
            None if everybody else self.parts[n],
            run.directory.nodes[n].users,
            self.ledger.proof(run.directory.ids[n]),
        )

    def answers(self, packets: Mapping[int, Packet], kind: str, refused: set[int]) -> Iterator[tuple[int, Packet]]:
        """Yield the nodes' answers.

        Args:
            packets: the question for each node.
            kind: of the questions, for logs.
            refused: nodes that refused are added here.
        """
        run = self.run
        if not packets:
            return
        index = {run.directory.ids[n]: n for n in packets}
        records = {run.directory.ids[n]: wire.to_record(each, run.config.download) for n, each in packets.items()}
        until = run.messenger.clock() + run.config.deadline
        for node, packet in run.messenger.ask(records, "train", f"round {self.number}, {kind}", until):
            n = index[node]
            if packet.kind == exchange.REFUSAL and packet.version == wire.VERSION:
                self.ledger.refused(node, packet)
                error = refused_by_node(packet)
                self.why = str(error)
                self.codes[n] = str(packet.facts.get("code"))
                self.dropped(n, error.code)
                refused.add(n)
                continue
            yield n, packet

    def read(
        self,
        n: int,
        packet: Packet,
        read: type[Sent],
        sender: Callable[[Any], int],
        content: Callable[[Packet], bytes] = masked.content,
    ) -> Sent | None:
        """Return a node's message; None for one that does not fit, or is another node's.

        Args:
            n: the node.
            packet: its answer.
            read: kind of the message.
            sender: gets the place of the sender from it.
            content: gets the bytes of the message from the answer.
        """
        try:
            message = read.decode(content(packet.expect(masked.MASKS, self.run.fingerprint, self.number)))
            if sender(message) == n:
                return message
            self.dropped(n, "sender")
        except WireError as error:
            self.dropped(n, error.code)
        except FedrecError:
            self.dropped(n, "stage")
        return None

    def taken(self, n: int, packet: Packet, add: Callable[[], None]) -> bool:
        """Add a node's vector, whose receipt is right; return whether it fitted. Else the node has dropped.

        Args:
            n: the node.
            packet: its answer.
            add: gives the message to the round's server.
        """
        try:
            self.ledger.answered(self.run.directory.ids[n], packet)
            add()
            return True
        except WireError as error:
            self.dropped(n, error.code)
        except FedrecError:
            self.dropped(n, "stage")
        return False

    def dropped(self, n: int, why: str) -> None:
        """Count and log a node that has dropped."""
        self.run.messenger.dropped(why, f"round {self.number}", self.run.directory.ids[n])
