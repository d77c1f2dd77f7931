"""The server's side of keys that nodes make during one secure sum for the next one.

A node's answer at `masked` offers its keys, its question at `confirm` contains the other nodes', and its answer there
the sealed shares. What does not fit counts as none: the next round then begins with new keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedrec.errors import FedrecError
from fedrec.run import masked
from fedrec.secagg import Advertise, Ahead, PeerServer, Roster, Round, Shares, Void
from fedrec.wire import Packet
from fedrec_server.flower.secure_questions import Sent


@dataclass(frozen=True)
class Ready:
    """Keys that are made.

    Attributes:
        server: has the keys of the nodes, and waits for the round.
        boxes: sealed shares for each node.
        ids: Flower's id of each node when it made its keys.
        held: digests of the tensors that all of them hold.
    """

    server: PeerServer
    boxes: Mapping[int, Shares]
    ids: Mapping[int, int]
    held: Mapping[str, str]

    def made_by(self, there: set[int], ids: Sequence[int]) -> bool:
        """Return whether all nodes that are there have made keys, under the ids that they have now."""
        return all(n in self.boxes and self.ids[n] == ids[n] for n in there)


class KeysAhead:
    """The keys for the round after this one."""

    def __init__(self, this_round: Round, roster: Roster) -> None:
        now = this_round
        ahead = Ahead(now.card, now.number, now.roster, now.cohort, now.assumed)
        self._server = PeerServer(ahead, roster, now.min_cohort)
        self._offers: list[Advertise] = []
        self._shares: list[Shares] = []

    def offered(self, n: int, packet: Packet) -> None:
        """Take the keys in a node's answer at `masked`."""
        offer = _following(packet, Advertise)
        if offer is not None and offer.sender == n:
            self._offers.append(offer)

    def lists(self) -> dict[int, bytes]:
        """Return the keys of the other nodes for each one; none where too few have offered theirs."""
        found = self._server.advertised(self._offers)
        return {} if isinstance(found, Void) else {n: each.encode() for n, each in found.items()}

    def shared(self, n: int, packet: Packet) -> None:
        """Take the sealed shares in a node's answer at `confirm`."""
        shares = _following(packet, Shares)
        if shares is not None and shares.member == n:
            self._shares.append(shares)

    def ready(self, ids: Sequence[int], held: Mapping[str, str]) -> Ready | None:
        """Return the keys; None where too few nodes have shared theirs."""
        boxes = self._server.shared(self._shares)
        if isinstance(boxes, Void):
            return None
        return Ready(self._server, boxes, {n: ids[n] for n in boxes}, dict(held))


def _following(packet: Packet, read: type[Sent]) -> Sent | None:
    part = masked.following(packet)
    try:
        return None if part is None else read.decode(part)
    except FedrecError:
        return None
