"""A node's part in a secure sum: one round at a time, whose secrets are in memory alone.

A node that restarts in a round has dropped from it: its journal holds the round's number, so that no second vector is
masked for one charge.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from fedrec.errors import FedrecError
from fedrec.privacy.shares import Shares as NoiseShares
from fedrec.run import masked
from fedrec.run.masked import Asked, Layout
from fedrec.secagg import Confirmations, KeyList, PeerClient, Refused, Roster, Shares, Survivors
from fedrec.secagg.file_journal import FileJournal
from fedrec.wire import Packet, WireError


class Masks:
    """The secure sums of a node.

    Args:
        key: the node's key for masks.
        folder: of the journal.
    """

    def __init__(self, key: Ed25519PrivateKey, folder: Path) -> None:
        self._key, self._journal = key, FileJournal(folder)
        self.public = key.public_key().public_bytes_raw()
        self._peer: PeerClient | None = None
        self._asked: Asked | None = None
        self._layout = Layout(())
        self._least = 0

    def advertise(self, asked: Asked, roster: Roster, layout: Layout, users: int, shares: NoiseShares) -> bytes:
        """Begin a round, and forget the one before.

        Args:
            asked: what the round follows from.
            roster: whose root is the card's.
            layout: of the round's vector.
            users: how many of this node's users are asked.
            shares: of the run. With fewer than `least` users the sum is not opened. More than `most` users in all would
                let one node claim the noise of users that the population does not have.

        Raises: WireError `roster` where this node, or its number of users, is not in the question, or all nodes
            together have too many; `stage` for a round that was answered before.
        """
        if self._peer is not None:
            self._peer.forget()
        self._peer, self._asked, self._layout, self._least = None, asked, layout, shares.least
        if self.public not in roster.keys:
            raise WireError("roster", "the roster lacks this node's key")
        place = roster.keys.index(self.public)
        if asked.counts[place] != users:
            raise WireError("roster", f"{asked.counts[place]} users are stated for this node, and {users} are asked")
        if sum(asked.counts) > shares.most:
            raise WireError("roster", f"{sum(asked.counts)} users are stated in all, and the run has {shares.most}")

        def begin() -> bytes:
            this_round = asked.round(roster, layout)
            self._peer = PeerClient(this_round, roster, place, self._key.sign, self._journal)
            return self._peer.advertise().encode()

        return _stage(begin)

    def check(self, charge: int, question: str) -> None:
        """Raises: WireError `stage` where no round of this charge and question is under way."""
        if (
            self._peer is None
            or self._asked is None
            or (self._asked.charge, self._asked.question) != (charge, question)
        ):
            raise WireError("stage", "no secure sum of this charge is under way here")

    def masked(self, sums: dict[str, Tensor], inbox: bytes) -> bytes:
        """Mask the sums, which have their users' noise.

        Args:
            sums: int64 modulo 2^bits by query.
            inbox: the other nodes' shares for this one.

        Raises: WireError `stage`.
        """
        return _stage(lambda: self._current.mask(self._layout.vector(sums), Shares.decode(inbox)).encode())

    def answer(self, packet: Packet) -> bytes:
        """Answer a question of the stages `share`, `confirm` and `unmask`. Raises: WireError `stage`."""
        message = masked.content(packet)
        if self._asked is None or packet.fact(masked.CHARGE, int) != self._asked.charge:
            raise WireError("stage", "no secure sum of this charge is under way here")
        peer = self._current
        if packet.kind == masked.SHARE:
            return _stage(lambda: peer.share(KeyList.decode(message)).encode())
        if packet.kind == masked.CONFIRM:
            return _stage(lambda: self._confirmed(peer, Survivors.decode(message)))
        return _stage(lambda: peer.unmask(Confirmations.decode(message)).encode())

    @property
    def _current(self) -> PeerClient:
        if self._peer is None:
            raise WireError("stage", "no secure sum is under way here")
        return self._peer

    def _confirmed(self, peer: PeerClient, survivors: Survivors) -> bytes:
        assert self._asked is not None
        counts = self._asked.counts
        users = sum(counts[place] for place in survivors.members if place < len(counts))
        if users < self._least:
            peer.forget()
            raise Refused(f"noise of {users} users; the run counts {self._least}")
        return peer.confirm(survivors).encode()


def _stage(call: Callable[[], bytes]) -> bytes:
    """Return what a stage answers; its errors quote public facts alone. Raises: WireError."""
    try:
        return call()
    except FedrecError as error:
        raise WireError("stage", str(error)) from None
