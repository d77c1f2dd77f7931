"""Who shares secrets with whom: the graph of `peers`, which the keys of its members are bound to."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

from fedrec.errors import InputError
from fedrec.secagg.fields import number, places
from fedrec.secagg.outcome import Refused
from fedrec.secagg.parameters import Assumption, Parameters, parameters
from fedrec.secagg.roster import Roster


class Graph(ABC):
    """What members advertise keys for: a round, or a later round that is not yet known.

    Attributes:
        number: of the charge under which the keys are advertised.
        roster: root of the roster.
        cohort: places of the members, ascending.
        assumed: gives neighbours and threshold.
    """

    number: int
    roster: bytes
    cohort: tuple[int, ...]
    assumed: Assumption

    @property
    @abstractmethod
    def digest(self) -> bytes:
        """SHA-256 that all keys and signatures of these members contain."""

    @property
    @abstractmethod
    def name(self) -> bytes:
        """What a journal claims, so that keys are advertised once."""

    @cached_property
    def parameters(self) -> Parameters:
        """The graph's numbers. Raises: PrivacyError where no graph meets the bounds."""
        return parameters(len(self.cohort), self.assumed)

    @cached_property
    def _ring(self) -> tuple[list[int], dict[int, int]]:
        start = hashlib.sha256(b"fedrec/secagg/v1/ring\x00" + self.digest)

        def draw(member: int) -> bytes:
            one = start.copy()
            one.update(number(member))
            return one.digest()

        ring = sorted(self.cohort, key=draw)
        return ring, {member: place for place, member in enumerate(ring)}

    def neighbours(self, member: int) -> tuple[int, ...]:
        """Return the neighbours of a member of the cohort in the graph of `peers`, ascending.

        The relation is symmetric. Source: Bell et al. 2020, section 3 (a Harary graph over a random order). Different
        here: everybody computes the order from the digest, so a list of neighbours is checked and never believed.
        """
        if self.parameters.complete:
            return tuple(other for other in self.cohort if other != member)
        ring, where = self._ring
        here, half = where[member], self.parameters.neighbours // 2
        steps = [*range(-half, 0), *range(1, half + 1)]
        return tuple(sorted(ring[(here + step) % len(ring)] for step in steps))

    def check_roster(self, roster: Roster) -> None:
        """Check the members against the roster of the card. Raises: Refused."""
        if roster.root != self.roster:
            raise Refused(f"round {self.number}: the roster is not the one of the run card")
        if self.cohort[-1] >= len(roster.keys):
            raise Refused(f"round {self.number}: member {self.cohort[-1]} is not on the roster")


@dataclass(frozen=True)
class Ahead(Graph):
    """Keys that are advertised during one round for the next one, whose charge and question nobody knows yet.

    Keys and sealed shares depend on no data, and reveal nothing. The masks that follow from them are bound to the
    digest of the later `Round`, and so are commitments and signatures of survivors. A member makes one round from them.

    Attributes:
        card: SHA-256 of the run card.
        number: of the charge during whose round the keys are advertised.
        roster, cohort, assumed, beacon: as in the later round.
    """

    card: bytes
    number: int
    roster: bytes
    cohort: tuple[int, ...]
    assumed: Assumption
    beacon: bytes = bytes(32)

    def __post_init__(self) -> None:
        if any(len(each) != 32 for each in (self.card, self.roster, self.beacon)):
            raise InputError("card, roster and beacon have 32 bytes each")
        if len(self.cohort) < 2 or list(self.cohort) != sorted(set(self.cohort)) or self.cohort[0] < 0:
            raise InputError("a cohort is ascending, of two members or more, with no member twice")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything above."""
        counts = (self.number, *self.assumed.counts)
        fixed = self.card + self.roster + self.beacon + b"".join(number(each, 8) for each in counts)
        return hashlib.sha256(b"fedrec/secagg/v1/ahead\x00" + fixed + places(self.cohort)).digest()

    @property
    def name(self) -> bytes:
        return b"ahead" + self.card + number(self.number, 8)
