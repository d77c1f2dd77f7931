"""`helper`: a second party that does not work with the server removes the masks of one survivor set a round.

A member sends its vector plus the mask of a seed, and the seed sealed for the helper (HPKE, RFC 9180, base mode of
X25519, HKDF-SHA256 and AES-256-GCM) and signed. The helper sees seeds and no vector; the server sees masked vectors and
no seed. Any number of members may drop.

| who | what it checks |
|---|---|
| member | round, roster and cohort; that it answers a round number once |
| helper | the same; every seed is signed by a member of the cohort; the charge; one survivor set for a round number |
| server | that the opening is of its own question |

The signature on a seed keeps the server from filling a cohort up with seeds of its own.
"""

import secrets
from collections.abc import Callable
from typing import Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from fedrec.errors import FedrecError
from fedrec.secagg import masks, vectors
from fedrec.secagg.helper_messages import HelperInput, Opening, OpenRequest, SealedSeed
from fedrec.secagg.journal import Journal
from fedrec.secagg.outcome import Refused, Total, Void
from fedrec.secagg.roster import Roster
from fedrec.secagg.round import Round

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class VerifyCharge(Protocol):
    """The helper's own check that a round is charged (`fedrec.secagg.charges` has one for a run's ledger)."""

    def __call__(self, this_round: Round, charge: bytes) -> None:
        """Return where the charge of this round is in the ledger. Raises: VerificationError where it is not.

        Args:
            this_round: to open.
            charge: the inclusion proof with its checkpoint, as the server sent it.
        """
        ...


def helper_input(
    this_round: Round,
    roster: Roster,
    member: int,
    sign: Callable[[bytes], bytes],
    journal: Journal,
    vector: NDArray,
    min_cohort: int = 2,
) -> HelperInput:
    """Mask a member's vector for a round with a helper.

    Args:
        this_round: as on the run card.
        roster: of the run card.
        member: own place in it.
        sign: by the own long-term Ed25519 key.
        journal: of this member, over all rounds.
        vector: shape (length,), uint32 or uint64, below 2**bits.
        min_cohort: own least number of survivors, whatever the round says.

    Raises: Refused where round and roster do not fit or the journal has the round already; InputError for another
        vector.
    """
    this_round.check(roster, min_cohort)
    if member not in this_round.cohort:
        raise Refused(f"round {this_round.number}: member {member} is not in the cohort")
    if not this_round.helper:
        raise Refused(f"round {this_round.number}: is one without a helper")
    vectors.checked(vector, this_round.bits, this_round.length)
    if journal.claim(this_round.name, this_round.digest) is not None:
        raise Refused(f"round {this_round.number}: was answered before; the server needs a new round")
    seed = secrets.token_bytes(masks.SEED)
    sealed = _SUITE.encrypt(seed, X25519PublicKey.from_public_bytes(this_round.helper), _seed_info(this_round, member))
    masked = vector.copy()
    masks.apply(masked, [_mask_seed(this_round, seed, member)])
    signed = SealedSeed(member, sealed, sign(_signed(this_round, member, sealed)))
    return HelperInput(signed, vectors.pack(vectors.reduce(masked, this_round.bits), this_round.bits))


class HelperServer:
    """The server of one round with a helper."""

    def __init__(self, this_round: Round, roster: Roster) -> None:
        this_round.check(roster, this_round.min_cohort)
        self.round, self._roster = this_round, roster
        self._seeds: dict[int, SealedSeed] = {}
        self._sum = np.zeros(this_round.length, vectors.word(this_round.bits))
        self._request: OpenRequest | None = None

    def masked(self, message: HelperInput) -> None:
        """Add one masked vector. Raises: Malformed or Refused for one that does not fit; its sender has dropped."""
        seed, where = message.seed, f"round {self.round.number}"
        if self._request or seed.sender in self._seeds or seed.sender not in self.round.cohort:
            raise Refused(f"{where}: no vector is expected of member {seed.sender}")
        if not self._roster.verifies(seed.sender, seed.signature, _signed(self.round, seed.sender, seed.sealed)):
            raise Refused(f"{where}: the seed of member {seed.sender} is not signed by its key on the roster")
        vector = vectors.unpack(message.vector, self.round.bits, self.round.length)
        self._seeds[seed.sender] = seed
        np.add(self._sum, vector, out=self._sum)

    def add_noise(self, noise: NDArray) -> None:
        """Add the server's own noise to the masked sum, before it is opened.

        Args:
            noise: (length,) uint32 or uint64, below 2**bits.
        Raises: Refused after the helper was asked.
        """
        vectors.checked(noise, self.round.bits, self.round.length)
        if self._request:
            raise Refused(f"round {self.round.number}: the helper was asked before")
        np.add(self._sum, noise, out=self._sum)

    def request(self, charge: bytes) -> OpenRequest | Void:
        """Close the stage of masked vectors, and ask for the sum of the masks."""
        if len(self._seeds) < self.round.min_cohort:
            return self._end(f"{len(self._seeds)} members sent a vector; the minimum cohort is {self.round.min_cohort}")
        if self._request is None:
            self._request = OpenRequest(
                self.round, tuple(self._seeds[member] for member in sorted(self._seeds)), charge
            )
        return self._request

    def total(self, opening: Opening) -> Total | Void:
        """Remove the masks, and return the sum of the survivors' vectors."""
        if self._request is None or opening.request != self._request.digest:
            return self._end("the helper opened another request")
        try:
            opened = vectors.unpack(opening.masks, self.round.bits, self.round.length)
        except FedrecError as error:
            return self._end(f"the helper's answer: {error}")
        np.subtract(self._sum, opened, out=self._sum)
        found = Total(vectors.reduce(self._sum, self.round.bits), tuple(sorted(self._seeds)))
        self._end("was finished")
        return found

    def _end(self, reason: str) -> Void:
        self._sum, self._request, self._seeds = np.zeros(0, self._sum.dtype), None, {}
        return Void(f"round {self.round.number}: {reason}")


class Helper:
    """The second party, over all rounds of a roster.

    Args:
        key: X25519, whose public part is on the run card.
        roster: of the run card.
        verify_charge: the check of a charge; without a charge nothing is opened.
        journal: survives a restart.
        min_cohort: own least number of survivors, whatever the round says.
    """

    def __init__(
        self, key: X25519PrivateKey, roster: Roster, verify_charge: VerifyCharge, journal: Journal, min_cohort: int = 2
    ) -> None:
        self._key, self._roster, self._verify, self._journal = key, roster, verify_charge, journal
        self.public, self.min_cohort = key.public_key().public_bytes_raw(), min_cohort

    def open(self, request: OpenRequest) -> Opening:
        """Return the sum of the masks of one survivor set.

        The set is in the journal before the sum leaves. The same request again has the same answer, so that a lost
        reply or a restart does not void a round; any other one for the same card and number is refused.

        Raises: Refused; VerificationError where the charge is not in the ledger.
        """
        this_round, where = request.round, f"round {request.round.number}"
        this_round.check(self._roster, self.min_cohort)
        if this_round.helper != self.public:
            raise Refused(f"{where}: is one of another helper")
        members = [each.sender for each in request.seeds]
        if members != sorted(set(members)) or not set(members) <= set(this_round.cohort):
            raise Refused(f"{where}: a survivor outside the cohort, or one twice")
        if len(members) < this_round.min_cohort:
            raise Refused(f"{where}: {len(members)} survivors; a sum is of at least {this_round.min_cohort}")
        for each in request.seeds:
            if not self._roster.verifies(each.sender, each.signature, _signed(this_round, each.sender, each.sealed)):
                raise Refused(f"{where}: the seed of member {each.sender} is not signed by its key on the roster")
        self._verify(this_round, request.charge)
        seeds = [_mask_seed(this_round, self._unsealed(this_round, each), each.sender) for each in request.seeds]
        before = self._journal.claim(this_round.name, request.digest)
        if before not in (None, request.digest):
            raise Refused(f"{where}: was opened for another survivor set; the server needs a new round")
        total = np.zeros(this_round.length, vectors.word(this_round.bits))
        masks.apply(total, seeds)
        return Opening(request.digest, vectors.pack(vectors.reduce(total, this_round.bits), this_round.bits))

    def _unsealed(self, this_round: Round, seed: SealedSeed) -> bytes:
        try:
            found = _SUITE.decrypt(seed.sealed, self._key, _seed_info(this_round, seed.sender))
        except (InvalidTag, ValueError):
            found = b""
        if len(found) != masks.SEED:
            raise Refused(f"round {this_round.number}: the seed of member {seed.sender} is not sealed for this helper")
        return found


def _seed_info(this_round: Round, member: int) -> bytes:
    return masks.info("sealed", this_round.digest, member)


def _mask_seed(this_round: Round, seed: bytes, member: int) -> bytes:
    return masks.hkdf(seed, masks.info("helper", this_round.digest, member))


def _signed(this_round: Round, member: int, sealed: bytes) -> bytes:
    return masks.info("seed", this_round.digest, member) + sealed
