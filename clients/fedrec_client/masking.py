"""A node's part in a secure sum: one round at a time, whose secrets are in memory alone.

A node that restarts in a round has dropped from it: its journal holds the round's number, so that no second vector is
masked for one charge. It has lost the keys that it made ahead, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedrec.errors import FedrecError
from fedrec.privacy.shares import Shares as NoiseShares
from fedrec.run import masked
from fedrec.run.masked import Asked, Layout
from fedrec.secagg import Ahead, Confirmations, Graph, KeyList, PeerClient, Refused, Roster, Shares, Survivors
from fedrec.secagg.file_journal import FileJournal
from fedrec.wire import Fact, Packet, WireError
from fedrec_client.own_place import own_place

Made = TypeVar("Made")


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
        self._next: PeerClient | None = None
        self._asked: Asked | None = None
        self._roster: Roster | None = None
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
        for each in (self._peer, self._next):
            if each is not None:
                each.forget()
        self._peer = self._next = self._asked = None
        self._roster, self._layout, self._least = roster, layout, shares.least
        own_place(self.public, asked, roster, users, shares)

        def begin() -> bytes:
            self._peer = self._client(asked.round(roster, layout), roster)
            self._asked = asked
            return self._peer.advertise().encode()

        return staged(begin)

    def begin(self, asked: Asked, layout: Layout, users: int, shares: NoiseShares) -> None:
        """Check that a round is under way, or begin one whose keys were made ahead; see `advertise`.

        Raises: WireError `roster`; `stage` where no keys of this round are here.
        """
        if self._roster is None:
            raise WireError("stage", "no secure sum is under way here")
        roster = self._roster
        own_place(self.public, asked, roster, users, shares)
        if self._asked == asked and self._peer is not None:
            return
        if asked.ahead is None or self._next is None or self._next.keys.number != asked.ahead:
            raise WireError("stage", "no secure sum of this charge is under way here")
        if self._peer is not None:
            self._peer.forget()
        peer, self._peer, self._next, self._asked = self._next, None, None, None
        staged(lambda: peer.begin(asked.round(roster, layout)))
        self._peer, self._asked, self._layout, self._least = peer, asked, layout, shares.least

    def masked(self, sums: Mapping[str, Any], inbox: bytes) -> bytes:
        """Mask the sums, which have their users' noise.

        Args:
            sums: int64 modulo 2^bits by query.
            inbox: the other nodes' shares for this one.

        Raises: WireError `stage`.
        """
        return staged(lambda: self._current.mask(self._layout.vector(sums), Shares.decode(inbox)).encode())

    def keys_ahead(self) -> dict[str, Fact]:
        """Return new keys for the round after the current one; nothing where they were made before."""
        now, roster = self._current.round, self._roster
        if self._next is not None:
            self._next.forget()
        self._next = None
        assert roster is not None
        try:
            peer = self._client(Ahead(now.card, now.number, now.roster, now.cohort, now.assumed), roster)
            made = peer.advertise().encode()
        except FedrecError:
            return {}
        self._next = peer
        return {masked.NEXT: made}

    def answer(self, packet: Packet) -> Packet:
        """Answer a question of the stages `share`, `confirm` and `unmask`. Raises: WireError `stage`."""
        message = masked.content(packet)
        if self._asked is None or packet.fact(masked.CHARGE, int) != self._asked.charge:
            raise WireError("stage", "no secure sum of this charge is under way here")
        peer = self._current
        if packet.kind == masked.SHARE:
            return masked.answer(packet, staged(lambda: peer.share(KeyList.decode(message)).encode()))
        if packet.kind == masked.CONFIRM:
            signed = staged(lambda: self._confirmed(peer, Survivors.decode(message)))
            return masked.answer(packet, signed, self._shared_ahead(masked.following(packet)))
        return masked.answer(packet, staged(lambda: peer.unmask(Confirmations.decode(message)).encode()))

    def _shared_ahead(self, keys: bytes | None) -> dict[str, Fact]:
        """Return the shares for the next round; nothing where its keys do not fit. This round stays as it is."""
        peer, self._next = self._next, None
        if peer is None or keys is None:
            return {}
        try:
            made = peer.share(KeyList.decode(keys)).encode()
        except FedrecError:
            peer.forget()
            return {}
        self._next = peer
        return {masked.NEXT: made}

    def _client(self, keys: Graph, roster: Roster) -> PeerClient:
        return PeerClient(keys, roster, roster.keys.index(self.public), self._key.sign, self._journal)

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


def staged(call: Callable[[], Made]) -> Made:
    """Return what a stage makes; its errors quote public facts alone. Raises: WireError `stage`."""
    try:
        return call()
    except FedrecError as error:
        raise WireError("stage", str(error)) from None
