"""The server of `peers`: it passes messages on, adds masked vectors, and removes the masks of one survivor set.

It holds one sum, however many members there are. A message that does not fit counts its sender as dropped. Every
method that ends a stage returns Void where the round cannot be finished; then the sum is gone, too.
"""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedrec.secagg import masks, shamir, vectors
from fedrec.secagg.graph import Graph
from fedrec.secagg.outcome import Refused, Total, Void
from fedrec.secagg.peer_keys import (
    advertised,
    agreed,
    agrees,
    commitment,
    confirmed,
    own_seed,
    pair_seed,
    point,
    secret_bytes,
)
from fedrec.secagg.peer_messages import (
    Advertise,
    Confirmation,
    Confirmations,
    KeyList,
    MaskedInput,
    Shares,
    Survivors,
    Unmasking,
)
from fedrec.secagg.roster import Roster
from fedrec.secagg.round import Round

Sent = TypeVar("Sent", Advertise, Confirmation, Unmasking)


class PeerServer:
    """One round. Its methods are called once each, in the order below; `masked` once for each member that answers.

    Args:
        keys: the round; or `Ahead`, and then `begin` gives the round before `masked`.
        roster: of the run card.
        least: members below which keys made ahead are not used.
    """

    def __init__(self, keys: Graph, roster: Roster, least: int = 2) -> None:
        keys.check_roster(roster)
        if isinstance(keys, Round) and keys.ahead is not None:
            raise Refused(f"round {keys.number}: its keys were made ahead, at round {keys.ahead}")
        self.keys, self._roster, self._least = keys, roster, least
        self._neighbours = {member: keys.neighbours(member) for member in keys.cohort}
        self._keys: dict[int, Advertise] = {}
        self._sharing: set[int] = set()
        self._commitments: dict[int, bytes] = {}
        self._sum: NDArray = np.zeros(0, np.uint32)
        self._void: Void | None = None
        if isinstance(keys, Round):
            self._begin(keys)

    def begin(self, this_round: Round) -> None:
        """Take the round of keys that were made ahead. Raises: Refused where it has other keys, or is the second."""
        if isinstance(self.keys, Round) or this_round.keys != self.keys:
            raise Refused(f"round {this_round.number}: the keys were not made for it")
        self._begin(this_round)
        self.keys = this_round

    def _begin(self, this_round: Round) -> None:
        this_round.check(self._roster, this_round.min_cohort)
        self.round, self._least = this_round, this_round.min_cohort
        self._sum = np.zeros(this_round.length, vectors.word(this_round.bits))

    def advertised(self, messages: Iterable[Advertise]) -> dict[int, KeyList] | Void:
        """Return the keys of the neighbours for each member whose own are signed.

        Keys that agree on nothing count as none: each neighbour would refuse them, so one member could void a round.
        """
        for member, each in _first(messages, set(self.keys.cohort)).items():
            signed = self._roster.verifies(member, each.signature, advertised(self.keys, each))
            if signed and agrees(each.channel) and agrees(each.mask):
                self._keys[member] = each
        return self._unless_few(self._keys.keys(), "advertised keys") or {
            member: KeyList(tuple(self._keys[other] for other in self._neighbours[member] if other in self._keys))
            for member in self._keys
        }

    def shared(self, messages: Iterable[Shares]) -> dict[int, Shares] | Void:
        """Return the sealed shares for each member that shared with all neighbours that it was given."""
        boxes: dict[int, list[tuple[int, bytes]]] = {}
        for each in sorted(messages, key=lambda one: one.member):
            given = [other for other in self._neighbours.get(each.member, ()) if other in self._keys]
            new = each.member in self._keys and each.member not in self._sharing
            if new and given == [other for other, _ in each.sealed]:
                self._sharing.add(each.member)
                for other, sealed in each.sealed:
                    boxes.setdefault(other, []).append((each.member, sealed))
        return self._unless_few(self._sharing, "shared their secrets") or {
            member: Shares(member, tuple(boxes.get(member, ()))) for member in sorted(self._sharing)
        }

    def masked(self, message: MaskedInput) -> None:
        """Add one masked vector. Raises: Malformed or Refused for one that does not fit; its sender has dropped."""
        if message.sender not in self._sharing or message.sender in self._commitments:
            raise Refused(f"round {self.round.number}: no vector is expected of member {message.sender}")
        vector = vectors.unpack(message.vector, self.round.bits, self.round.length)
        self._commitments[message.sender] = message.commitment
        np.add(self._sum, vector, out=self._sum)

    def survivors(self) -> Survivors | Void:
        """Close the stage of masked vectors."""
        return self._unless_few(self._commitments.keys(), "sent a vector") or Survivors(
            tuple(sorted(self._commitments))
        )

    def confirmed(self, messages: Iterable[Confirmation]) -> dict[int, Confirmations] | Void:
        """Return the confirmations of the neighbours for each member that signed the survivors."""
        text = confirmed(self.round, Survivors(tuple(sorted(self._commitments))))
        given = {
            member: each
            for member, each in _first(messages, self._commitments.keys()).items()
            if self._roster.verifies(member, each.signature, text)
        }
        return self._void or {
            member: Confirmations(tuple(given[other] for other in self._neighbours[member] if other in given))
            for member in given
        }

    def unmasked(self, messages: Iterable[Unmasking]) -> Total | Void:
        """Remove all masks, and return the sum of the survivors' vectors."""
        answers = _first(messages, self._commitments.keys())
        if self._void:
            return self._void
        seeds: dict[int, dict[int, int]] = {member: {} for member in self._sharing}
        keys: dict[int, dict[int, int]] = {member: {} for member in self._sharing}
        for sender, each in answers.items():
            mine = set(self._neighbours[sender])
            for shares, into in ((each.seeds, seeds), (each.keys, keys)):
                for owner, share in shares:
                    if owner in mine and owner in into:
                        into[owner][point(sender)] = share
        added: list[bytes] = []
        subtracted: list[bytes] = []
        for member in sorted(self._sharing):
            alive = member in self._commitments
            found = self._combined((seeds if alive else keys)[member])
            if found is None:
                return self._end(f"fewer than {self.round.parameters.threshold} shares of member {member}")
            if alive:
                if commitment(self.round, found, member) != self._commitments[member]:
                    return self._end(f"the shares of member {member} do not give its seed")
                subtracted.append(own_seed(self.round, found, member))
            elif not self._add_pairs(member, found, added, subtracted):
                return self._end(f"the shares of member {member} do not give its key")
        masks.apply(self._sum, added, subtracted)
        total = Total(vectors.reduce(self._sum, self.round.bits), tuple(sorted(self._commitments)))
        self._end("was finished")
        return total

    def _add_pairs(self, dropped: int, secret: bytes, added: list[bytes], subtracted: list[bytes]) -> bool:
        """Collect what survivors' masks with a dropped member left in the sum. Returns whether its key is right."""
        key = X25519PrivateKey.from_private_bytes(secret)
        if key.public_key().public_bytes_raw() != self._keys[dropped].mask:
            return False
        for other in self._neighbours[dropped]:
            if other in self._commitments:
                seed = pair_seed(self.round, agreed(key, self._keys[other].mask), dropped, other)
                (subtracted if other < dropped else added).append(seed)
        return True

    def _combined(self, shares: dict[int, int]) -> bytes | None:
        """Return the secret; None for too few shares. Shares that fit no secret give bytes that fit nothing."""
        threshold = self.round.parameters.threshold
        if len(shares) < threshold:
            return None
        return secret_bytes(shamir.combine({at: shares[at] for at in sorted(shares)[:threshold]})) or bytes(32)

    def _unless_few(self, members: Iterable[int], did: str) -> Void | None:
        count = len(set(members))
        if self._void is None and count < self._least:
            self._end(f"{count} members {did}; the minimum cohort is {self._least}")
        return self._void

    def _end(self, reason: str) -> Void:
        self._sum = np.zeros(0, self._sum.dtype)
        self._void = self._void or Void(f"round {self.keys.number}: {reason}")
        return self._void


def _first(messages: Iterable[Sent], members: Iterable[int]) -> dict[int, Sent]:
    """Return the first message of each of the members, by ascending member."""
    known = set(members)
    found: dict[int, Sent] = {}
    for each in messages:
        if each.sender in known:
            found.setdefault(each.sender, each)
    return dict(sorted(found.items()))
