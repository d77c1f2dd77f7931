"""A member of `peers`: five stages, each answered once, and the reasons not to answer.

Source: Bell et al. 2020 (SecAgg+), the variant with signatures. Different from it: all long-term keys are on a roster
that the run card fixes, and the graph follows from public randomness.

A method that raises Refused ends the member's part in the round: it forgets its secrets and answers nothing more.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedrec.secagg import masks, shamir, vectors
from fedrec.secagg.fields import number
from fedrec.secagg.graph import Graph
from fedrec.secagg.journal import Journal
from fedrec.secagg.outcome import Malformed, Refused
from fedrec.secagg.peer_keys import (
    advertised,
    agreed,
    channel,
    commitment,
    confirmed,
    own_seed,
    pair_seed,
    point,
    secret_number,
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

Sign = Callable[[bytes], bytes]
"""A signature by the member's long-term Ed25519 key."""
_NONCE = bytes(12)
"""A key of a channel encrypts one message in its life."""


class Stage(IntEnum):
    """What a member does next."""

    ADVERTISE, SHARE, MASK, CONFIRM, UNMASK, DONE = range(6)


class PeerClient:
    """One member in one round.

    Its keys are bound to the round, or made ahead of it: then `begin` binds them to a round before `mask`.

    Args:
        keys: the round, as on the run card; or `Ahead`.
        roster: of the run card.
        member: own place in it.
        sign: by the own long-term key.
        journal: of this member, over all rounds.
        min_cohort: own least number of survivors, whatever the round says.

    Raises: Refused where round and roster do not fit, or the journal has the round already.
    """

    def __init__(
        self, keys: Graph, roster: Roster, member: int, sign: Sign, journal: Journal, min_cohort: int = 2
    ) -> None:
        keys.check_roster(roster)
        if isinstance(keys, Round) and keys.ahead is not None:
            raise Refused(f"round {keys.number}: its keys were made ahead, at round {keys.ahead}")
        if member not in keys.cohort:
            raise Refused(f"round {keys.number}: member {member} is not in the cohort")
        self.keys, self.member, self._roster, self._sign = keys, member, roster, sign
        self._journal, self._least = journal, min_cohort
        self._round = self._checked(keys)
        self.neighbours = keys.neighbours(member)
        self.threshold = keys.parameters.threshold
        if journal.claim(keys.name, keys.digest) is not None:
            raise Refused(f"round {keys.number}: was answered before; the server needs a new round")
        self._stage = Stage.ADVERTISE
        self._channel_key, self._mask_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._secret = secrets.token_bytes(masks.SEED)
        self._keys: dict[int, Advertise] = {}
        self._channels: dict[int, bytes] = {}
        self._shares: dict[int, tuple[int, int]] = {}
        self._survivors: Survivors | None = None

    @property
    def round(self) -> Round:
        """The round. Raises: Refused where keys were made ahead, and no round has begun."""
        if self._round is None:
            raise Refused(f"keys ahead of round {self.keys.number}: belong to no round yet")
        return self._round

    @property
    def _number(self) -> int:
        return (self._round or self.keys).number

    def begin(self, this_round: Round) -> None:
        """Bind keys that were made ahead to their one round.

        Raises: Refused where the round has other keys, was answered before, or is the second one.
        """
        stage = self._stage
        with self._turn(Stage.MASK):
            where = f"round {this_round.number}"
            if self._round is not None:
                raise Refused(f"{where}: the keys belong to round {self._round.number}")
            if this_round.ahead is None or this_round.keys != self.keys:
                raise Refused(f"{where}: the keys were not made for it")
            found = self._checked(this_round)
            if self._journal.claim(this_round.name, this_round.digest) is not None:
                raise Refused(f"{where}: was answered before; the server needs a new round")
            self._round = found
        self._stage = stage

    def forget(self) -> None:
        """Drop all secrets of the round; nothing is answered from here on."""
        self._stage = Stage.DONE
        self._secret, self._survivors = b"", None
        self._keys, self._channels, self._shares = {}, {}, {}
        self.__dict__.pop("_channel_key", None)
        self.__dict__.pop("_mask_key", None)

    def advertise(self) -> Advertise:
        """Sign the public keys of this round."""
        with self._turn(Stage.ADVERTISE):
            public = [key.public_key().public_bytes_raw() for key in (self._channel_key, self._mask_key)]
            unsigned = Advertise(self.member, public[0], public[1], b"")
            return Advertise(self.member, public[0], public[1], self._sign(advertised(self.keys, unsigned)))

    def share(self, keys: KeyList) -> Shares:
        """Share the secrets of both masks among the neighbours that advertised keys.

        Raises: Refused for a key that is not a neighbour's, is not signed, or is there twice, and for fewer than
            `threshold` of them.
        """
        with self._turn(Stage.SHARE):
            where = f"round {self.keys.number}"
            for each in keys.keys:
                if each.sender not in self.neighbours or each.sender in self._keys:
                    raise Refused(
                        f"{where}: member {each.sender} is not a neighbour by the public order, or is there twice"
                    )
                if not self._roster.verifies(each.sender, each.signature, advertised(self.keys, each)):
                    raise Refused(f"{where}: the keys of member {each.sender} are not signed by its key on the roster")
                self._keys[each.sender] = each
            others = sorted(self._keys)
            self._enough(len(others), "neighbours")
            points = [point(other) for other in others]
            private = self._mask_key.private_bytes_raw()
            of_key = shamir.split(secret_number(private), points, self.threshold)
            of_seed = shamir.split(secret_number(self._secret), points, self.threshold)
            sealed = []
            for other, key_share, seed_share in zip(others, of_key, of_seed, strict=True):
                secret = agreed(self._channel_key, self._keys[other].channel)
                self._channels[other] = channel(self.keys, secret, other, self.member)
                plain = number(key_share, shamir.SHARE) + number(seed_share, shamir.SHARE)
                one = AESGCM(channel(self.keys, secret, self.member, other))
                sealed.append((other, one.encrypt(_NONCE, plain, None)))
            return Shares(self.member, tuple(sealed))

    def mask(self, vector: NDArray, inbox: Shares) -> MaskedInput:
        """Mask a vector for all neighbours that shared.

        Args:
            vector: shape (length,), uint32 or uint64, below 2**bits.
            inbox: what the neighbours sealed for this member.

        Raises: Refused for shares of a stranger, shares that were changed, and fewer than `threshold`; InputError for
            another vector.
        """
        with self._turn(Stage.MASK):
            vectors.checked(vector, self.round.bits, self.round.length)
            self._open(inbox)
            seeds: dict[bool, list[bytes]] = {True: [own_seed(self.round, self._secret, self.member)], False: []}
            for other in self._shares:
                secret = agreed(self._mask_key, self._keys[other].mask)
                seeds[self.member < other].append(pair_seed(self.round, secret, self.member, other))
            masked = vector.copy()
            masks.apply(masked, seeds[True], seeds[False])
            packed = vectors.pack(vectors.reduce(masked, self.round.bits), self.round.bits)
            return MaskedInput(self.member, commitment(self.round, self._secret, self.member), packed)

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Sign the survivors: the only set that this member helps to unmask.

        Raises: Refused for fewer than the cohort's minimum or `threshold` neighbours, for a set without this member,
            and for a neighbour in it that sent no shares.
        """
        with self._turn(Stage.CONFIRM):
            where, found = f"round {self.round.number}", set(survivors.members)
            if not found <= set(self.round.cohort) or len(found) != len(survivors.members):
                raise Refused(f"{where}: a survivor outside the cohort, or one twice")
            if len(found) < self.round.min_cohort:
                raise Refused(f"{where}: {len(found)} survivors; a sum is of at least {self.round.min_cohort}")
            if self.member not in found:
                raise Refused(f"{where}: the survivors do not contain this member")
            alive = found & set(self.neighbours)
            if not alive <= self._shares.keys():
                raise Refused(f"{where}: a neighbour among the survivors sent no shares")
            self._enough(len(alive), "neighbours among the survivors")
            self._survivors = survivors
            return Confirmation(self.member, self._sign(confirmed(self.round, survivors)))

    def unmask(self, confirmations: Confirmations) -> Unmasking:
        """Give one share for each neighbour: of its seed where it survived, of its key where it dropped.

        Raises: Refused where fewer than `threshold` neighbours signed the same survivors.
        """
        with self._turn(Stage.UNMASK):
            assert self._survivors is not None
            alive, text = set(self._survivors.members), confirmed(self.round, self._survivors)
            able = alive & set(self.neighbours)
            signed: set[int] = set()
            for each in confirmations.given:
                if len(signed) >= self.threshold:
                    break
                if each.sender in able - signed and self._roster.verifies(each.sender, each.signature, text):
                    signed.add(each.sender)
            self._enough(len(signed), "neighbours that signed the same survivors")
            seeds = tuple((other, shares[1]) for other, shares in self._shares.items() if other in alive)
            keys = tuple((other, shares[0]) for other, shares in self._shares.items() if other not in alive)
            return Unmasking(self.member, seeds, keys)

    def _checked(self, keys: Graph) -> Round | None:
        """Return the round, checked; None for keys that are made ahead. Raises: Refused."""
        if not isinstance(keys, Round):
            return None
        keys.check(self._roster, self._least)
        if keys.helper:
            raise Refused(f"round {keys.number}: is one with a helper")
        return keys

    @contextmanager
    def _turn(self, stage: Stage) -> Iterator[None]:
        """Answer at this stage alone; after an error there is no later stage, and no secrets."""
        now, self._stage = self._stage, Stage.DONE
        if now is not stage:
            self.forget()
            raise Refused(f"round {self._number}: asked to {stage.name.lower()} out of turn, or twice")
        try:
            yield
        except Exception:
            self.forget()
            raise
        self._stage = Stage(stage + 1)
        if self._stage is Stage.DONE:
            self.forget()

    def _open(self, inbox: Shares) -> None:
        where = f"round {self._number}"
        if inbox.member != self.member:
            raise Refused(f"{where}: shares for member {inbox.member}")
        for other, sealed in sorted(inbox.sealed):
            if other not in self._channels or other in self._shares:
                raise Refused(f"{where}: shares of member {other}, which advertised no keys here, or twice")
            try:
                plain = AESGCM(self._channels[other]).decrypt(_NONCE, sealed, None)
            except InvalidTag:
                raise Refused(f"{where}: the shares of member {other} were changed or are of another round") from None
            pair = (secret_number(plain[: shamir.SHARE]), secret_number(plain[shamir.SHARE :]))
            if len(plain) != 2 * shamir.SHARE or max(pair) >= shamir.PRIME:
                raise Malformed(f"{where}: the shares of member {other} are no shares")
            self._shares[other] = pair
        self._enough(len(self._shares), "neighbours that shared")

    def _enough(self, count: int, what: str) -> None:
        if count < self.threshold:
            raise Refused(f"round {self._number}: {count} {what}; at least {self.threshold} are needed")
