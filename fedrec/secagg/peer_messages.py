"""The messages of `peers`. Each has one spelling; `decode` refuses everything else with Malformed.

| stage | a member sends | and gets |
|---|---|---|
| 1 | `Advertise`: its public keys of this round, signed | `KeyList`: those of its neighbours |
| 2 | `Shares`: shares of its secrets, sealed for each neighbour | `Shares`: those that are sealed for it |
| 3 | `MaskedInput` | `Survivors`: whose input arrived |
| 4 | `Confirmation`: its signature on the survivors | `Confirmations`: those of its neighbours |
| 5 | `Unmasking`: a share of each neighbour's seed or key | |
"""

from dataclasses import dataclass

from fedrec.secagg.fields import Reader, number, places
from fedrec.secagg.outcome import Malformed
from fedrec.secagg.shamir import PRIME, SHARE

SEALED = 2 * SHARE + 16
"""Bytes of two shares under AES-GCM."""
_ADVERTISE, _KEYS, _SHARES, _MASKED = b"SA1", b"SK1", b"SS1", b"SM1"
_SURVIVORS, _CONFIRM, _CONFIRMED, _UNMASK = b"SU1", b"SC1", b"SL1", b"SX1"


@dataclass(frozen=True)
class Advertise:
    """A member's X25519 keys of one round, for shares (`channel`) and for masks (`mask`), 32 bytes each."""

    sender: int
    channel: bytes
    mask: bytes
    signature: bytes

    @property
    def fields(self) -> bytes:
        """The message without its kind: 132 bytes."""
        return number(self.sender) + self.channel + self.mask + self.signature

    def encode(self) -> bytes:
        return _ADVERTISE + self.fields

    @classmethod
    def read(cls, reader: Reader) -> "Advertise":
        """Read the next fields."""
        return cls(reader.member(), reader.take(32), reader.take(32), reader.take(64))

    @classmethod
    def decode(cls, data: bytes) -> "Advertise":
        reader = Reader(data, _ADVERTISE)
        found = cls.read(reader)
        reader.end()
        return found


@dataclass(frozen=True)
class KeyList:
    """The advertised keys of a member's neighbours, by ascending sender."""

    keys: tuple[Advertise, ...]

    def encode(self) -> bytes:
        return _KEYS + number(len(self.keys)) + b"".join(each.fields for each in self.keys)

    @classmethod
    def decode(cls, data: bytes) -> "KeyList":
        reader = Reader(data, _KEYS)
        found = tuple(Advertise.read(reader) for _ in range(reader.count(132)))
        reader.ascending(tuple(each.sender for each in found))
        reader.end()
        return cls(found)


@dataclass(frozen=True)
class Shares:
    """Sealed shares.

    Attributes:
        member: sender of all of them, or receiver of all of them.
        sealed: the other member of each, ascending, and 148 bytes.
    """

    member: int
    sealed: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        entries = (number(other) + each for other, each in self.sealed)
        return _SHARES + number(self.member) + number(len(self.sealed)) + b"".join(entries)

    @classmethod
    def decode(cls, data: bytes) -> "Shares":
        reader = Reader(data, _SHARES)
        member = reader.member()
        found = tuple((reader.member(), reader.take(SEALED)) for _ in range(reader.count(4 + SEALED)))
        reader.ascending(tuple(other for other, _ in found))
        reader.end()
        return cls(member, found)


@dataclass(frozen=True)
class MaskedInput:
    """A masked vector. commitment: SHA-256 by which a reconstructed seed is recognised. vector: packed."""

    sender: int
    commitment: bytes
    vector: bytes

    def encode(self) -> bytes:
        return _MASKED + number(self.sender) + self.commitment + self.vector

    @classmethod
    def decode(cls, data: bytes) -> "MaskedInput":
        reader = Reader(data, _MASKED)
        return cls(reader.member(), reader.take(32), reader.rest())


@dataclass(frozen=True)
class Survivors:
    """The members whose masked input arrived: the only set that this round is ever unmasked for."""

    members: tuple[int, ...]

    def encode(self) -> bytes:
        return _SURVIVORS + places(self.members)

    @classmethod
    def decode(cls, data: bytes) -> "Survivors":
        reader = Reader(data, _SURVIVORS)
        found = reader.places()
        reader.end()
        return cls(found)


@dataclass(frozen=True)
class Confirmation:
    """A member's signature on the survivors that it was shown."""

    sender: int
    signature: bytes

    def encode(self) -> bytes:
        return _CONFIRM + number(self.sender) + self.signature

    @classmethod
    def decode(cls, data: bytes) -> "Confirmation":
        reader = Reader(data, _CONFIRM)
        found = cls(reader.member(), reader.take(64))
        reader.end()
        return found


@dataclass(frozen=True)
class Confirmations:
    """The confirmations of a member's neighbours, by ascending sender."""

    given: tuple[Confirmation, ...]

    def encode(self) -> bytes:
        return _CONFIRMED + number(len(self.given)) + b"".join(number(e.sender) + e.signature for e in self.given)

    @classmethod
    def decode(cls, data: bytes) -> "Confirmations":
        reader = Reader(data, _CONFIRMED)
        found = tuple(Confirmation(reader.member(), reader.take(64)) for _ in range(reader.count(68)))
        reader.ascending(tuple(each.sender for each in found))
        reader.end()
        return cls(found)


@dataclass(frozen=True)
class Unmasking:
    """A member's shares: of the seeds of neighbours that survived, and of the keys of those that dropped.

    Attributes:
        sender: the member.
        seeds, keys: owner, ascending, and share.
    """

    sender: int
    seeds: tuple[tuple[int, int], ...]
    keys: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        parts = [_UNMASK, number(self.sender)]
        for owned in (self.seeds, self.keys):
            parts += [number(len(owned)), *(number(owner) + number(share, SHARE) for owner, share in owned)]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "Unmasking":
        reader = Reader(data, _UNMASK)
        sender = reader.member()
        seeds, keys = (
            tuple((reader.member(), reader.number(SHARE)) for _ in range(reader.count(4 + SHARE))) for _ in range(2)
        )
        for owned in (seeds, keys):
            reader.ascending(tuple(owner for owner, _ in owned))
            if any(share >= PRIME for _, share in owned):
                raise Malformed("a share that is no number modulo 2**521 - 1")
        reader.end()
        return cls(sender, seeds, keys)
