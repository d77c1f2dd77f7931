"""What all parties of one aggregation agree on, and its digest, which every key and signature contains."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from fedrec.errors import InputError, PrivacyError
from fedrec.secagg.fields import Reader, number, places
from fedrec.secagg.graph import Ahead, Graph
from fedrec.secagg.outcome import Refused
from fedrec.secagg.parameters import Assumption
from fedrec.secagg.roster import Roster
from fedrec.secagg.vectors import word

_KIND = b"SR1"


@dataclass(frozen=True)
class Round(Graph):
    """One aggregation. Two that differ in any field share no key and no mask.

    Attributes:
        card: SHA-256 of the run card.
        model: SHA-256 of the model and question that the members answer.
        number: of the aggregation under this card; never used again, also after a void round. The position of its
            charge in the ledger is one.
        roster: root of the roster.
        cohort: places of the members that are asked, ascending.
        bits: the modulus is 2**bits.
        length: elements of a vector.
        min_cohort: least number of survivors whose sum is revealed.
        assumed: gives the graph of `peers`.
        beacon: 32 public random bytes, fixed after the roster; they put the members of `peers` on their ring. A server
            that may choose among 2**n rounds is what `assumed.grinding` = n is for.
        helper: X25519 public key of the helper; empty for `peers`.
        ahead: number of the earlier charge during whose round the members advertised the keys of this one; None where
            they advertise them in this round.
    """

    card: bytes
    model: bytes
    number: int
    roster: bytes
    cohort: tuple[int, ...]
    bits: int
    length: int
    min_cohort: int
    assumed: Assumption = Assumption()
    beacon: bytes = bytes(32)
    helper: bytes = b""
    ahead: int | None = None

    def __post_init__(self) -> None:
        word(self.bits)
        if any(len(each) != 32 for each in (self.card, self.model, self.roster, self.beacon)):
            raise InputError("card, model, roster and beacon of a round have 32 bytes each")
        if len(self.helper) not in (0, 32):
            raise InputError("a helper's key has 32 bytes")
        if list(self.cohort) != sorted(set(self.cohort)) or (self.cohort and self.cohort[0] < 0):
            raise InputError("a cohort is ascending, with no member twice")
        if not 2 <= self.min_cohort <= len(self.cohort):
            raise InputError(f"a cohort of {len(self.cohort)}: must have the minimum of {self.min_cohort}, at least 2")
        if not (0 <= self.number < 1 << 63 and 0 <= self.length < 1 << 32):
            raise InputError(f"round {self.number} of length {self.length}: out of range")
        if self.ahead is not None and not 0 <= self.ahead < self.number:
            raise InputError(f"round {self.number}: keys that were made ahead are of an earlier charge")

    @cached_property
    def encoded(self) -> bytes:
        """The round's form on the wire."""
        counts = (self.number, self.bits, self.length, self.min_cohort, *self.assumed.counts)
        fixed = self.card + self.model + self.roster + self.beacon
        return b"".join(
            [
                _KIND,
                fixed,
                *(number(count, 8) for count in counts),
                places(self.cohort),
                number(len(self.helper), 1),
                self.helper,
                number(0 if self.ahead is None else self.ahead + 1, 8),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Round":
        """Return the round. Raises: Malformed; InputError for values that no round has."""
        reader = Reader(data, _KIND)
        card, model, roster, beacon = (reader.take(32) for _ in range(4))
        count, bits, length, least, *shares = (reader.number(8) for _ in range(8))
        try:
            assumed = Assumption.of_counts(*shares)
        except PrivacyError as error:
            raise InputError(f"a round whose {error}") from None
        cohort = reader.places()
        helper = reader.take(reader.number(1))
        ahead = reader.number(8)
        reader.end()
        earlier = ahead - 1 if ahead else None
        found = cls(card, model, count, roster, cohort, bits, length, least, assumed, beacon, helper, earlier)
        if found.encoded != data:
            raise InputError("a round in another spelling")
        return found

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything above."""
        return hashlib.sha256(b"fedrec/secagg/v1/round\x00" + self.encoded).digest()

    @property
    def name(self) -> bytes:
        """Card and number: what a journal claims, so that no second question has the same number."""
        return self.card + number(self.number, 8)

    @property
    def keys(self) -> Graph:
        """What the keys of the members of `peers` are bound to: this round, or keys made ahead of it."""
        if self.ahead is None:
            return self
        return Ahead(self.card, self.ahead, self.roster, self.cohort, self.assumed, self.beacon)

    def neighbours(self, member: int) -> tuple[int, ...]:
        """Return the neighbours of a member in the graph that the keys are bound to."""
        return super().neighbours(member) if self.ahead is None else self.keys.neighbours(member)

    def check(self, roster: Roster, min_cohort: int) -> None:
        """Check the round against the roster of the card and an own minimum. Raises: Refused."""
        self.check_roster(roster)
        if self.min_cohort < min_cohort:
            raise Refused(f"round {self.number}: a minimum cohort of {self.min_cohort}; here at least {min_cohort}")
