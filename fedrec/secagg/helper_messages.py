"""The messages of `helper`. Each has one spelling; `decode` refuses everything else with Malformed."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from fedrec.secagg.fields import Reader, number
from fedrec.secagg.round import Round

SEALED = 80
"""Bytes of a seed under HPKE: X25519 key 32, seed 32, tag 16."""
_INPUT, _REQUEST, _OPENING = b"HI1", b"HR1", b"HO1"


@dataclass(frozen=True)
class SealedSeed:
    """A member's seed for the helper, and the member's signature on it."""

    sender: int
    sealed: bytes
    signature: bytes

    @property
    def fields(self) -> bytes:
        """The seed's form on the wire: 148 bytes."""
        return number(self.sender) + self.sealed + self.signature

    @classmethod
    def read(cls, reader: Reader) -> "SealedSeed":
        """Read the next fields."""
        return cls(reader.member(), reader.take(SEALED), reader.take(64))


@dataclass(frozen=True)
class HelperInput:
    """A member's only message. vector: masked and packed."""

    seed: SealedSeed
    vector: bytes

    def encode(self) -> bytes:
        return _INPUT + self.seed.fields + self.vector

    @classmethod
    def decode(cls, data: bytes) -> "HelperInput":
        reader = Reader(data, _INPUT)
        return cls(SealedSeed.read(reader), reader.rest())


@dataclass(frozen=True)
class OpenRequest:
    """The server's question: the sum of the masks of these members.

    Attributes:
        round: of the seeds.
        seeds: of the survivors, by ascending sender.
        charge: proof that the round is charged, for the helper's verifier.
    """

    round: Round
    seeds: tuple[SealedSeed, ...]
    charge: bytes

    def encode(self) -> bytes:
        parts = [_REQUEST, number(len(self.round.encoded)), self.round.encoded, number(len(self.seeds))]
        return b"".join([*parts, *(each.fields for each in self.seeds), self.charge])

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of round and seeds: what the helper answers, once."""
        seeds = b"".join(each.fields for each in self.seeds)
        return hashlib.sha256(b"fedrec/secagg/v1/open\x00" + self.round.digest + seeds).digest()

    @classmethod
    def decode(cls, data: bytes) -> "OpenRequest":
        reader = Reader(data, _REQUEST)
        of = Round.decode(reader.take(reader.count(1)))
        seeds = tuple(SealedSeed.read(reader) for _ in range(reader.count(148)))
        reader.ascending(tuple(each.sender for each in seeds))
        return cls(of, seeds, reader.rest())


@dataclass(frozen=True)
class Opening:
    """The helper's answer. request: digest of the question. masks: their sum, packed."""

    request: bytes
    masks: bytes

    def encode(self) -> bytes:
        return _OPENING + self.request + self.masks

    @classmethod
    def decode(cls, data: bytes) -> "Opening":
        reader = Reader(data, _OPENING)
        return cls(reader.take(32), reader.rest())
