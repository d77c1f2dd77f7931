"""A node's part in a secure sum whose masks a helper keeps: one question, one answer, no state between rounds.

The journal holds the round's number before a vector is masked, so a node answers each charge once, also after a
restart. The helper checks what a node cannot see in one message: that enough users' noise arrived.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedrec.audit.card.card import RunCard
from fedrec.privacy.shares import Shares
from fedrec.run.masked import Asked, Layout
from fedrec.secagg import Roster, Round, helper_input
from fedrec.secagg.file_journal import FileJournal
from fedrec.wire import WireError
from fedrec_client.masking import staged
from fedrec_client.own_place import own_place


@dataclass(frozen=True)
class Begun:
    """A round that a node may answer, once."""

    round: Round
    roster: Roster
    place: int
    layout: Layout
    sign: Callable[[bytes], bytes]
    journal: FileJournal

    def masked(self, sums: Mapping[str, Any]) -> bytes:
        """Return the message with the sums, masked.

        Args:
            sums: int64 modulo 2^bits by query, with their users' noise.
        Raises: WireError `stage` for a round that was answered before.
        """
        vector = self.layout.vector(sums)
        return staged(
            lambda: helper_input(self.round, self.roster, self.place, self.sign, self.journal, vector).encode()
        )


class HelpedMasks:
    """The secure sums with a helper of a node.

    Args:
        key: the node's key for masks.
        folder: of the journal.
    """

    def __init__(self, key: Ed25519PrivateKey, folder: Path) -> None:
        self._key, self._journal = key, FileJournal(folder)
        self.public = key.public_key().public_bytes_raw()

    def begin(self, card: RunCard, asked: Asked, roster: Roster, layout: Layout, users: int, shares: Shares) -> Begun:
        """Check a round before anything is computed or charged for it.

        Args:
            card: names the helper.
            asked: what the round follows from.
            roster: whose root is the card's.
            layout: of the round's vector.
            users: how many of this node's users are asked.
            shares: of the run. More than `most` users in all would let one node claim the noise of users that the
                population does not have.

        Raises: WireError `roster` where this node, or its number of users, is not in the question, or all nodes
            together have too many; `stage` for a round that was answered before, or that cannot be.
        """
        if card.helper is None:
            raise WireError("terms", "the run card names no helper")
        place = own_place(self.public, asked, roster, users, shares)
        seeds = card.helper.seeds
        this_round = staged(lambda: asked.round(roster, layout, seeds))
        if self._journal.claimed(this_round.name) is not None:
            raise WireError("stage", f"the charge {asked.charge} was answered before; the server needs a new one")
        return Begun(this_round, roster, place, layout, self._key.sign, self._journal)
