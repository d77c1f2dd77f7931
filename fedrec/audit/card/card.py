"""The run card: a signed description of a run, published before its first round, which a device checks by itself.

A card is record 0 of the run's ledger with a proof that it is there: the text that `fedrec audit prove RUN --record 0`
writes, under a checkpoint that the ledger's key signed and witnesses may have cosigned. Records of a deployment hold
under `card` what a device needs beside the promise that every run's first record makes:

| field of `card` | meaning |
|---|---|
| `serial` | microseconds since 1970 at which the card was made; a later card of the same key has a larger one |
| `expires` | the time, in UTC, from which nobody answers the run |
| `fingerprint` | of the run's whole description, which fixes every setting |
| `minimum_cohort` | users expected in a round in which only the fewest nodes answer |
| `nodes` | nodes of the run, each of which signs a receipt for every answer |

What differs from the other records: this file needs `cryptography` and the standard library alone, so that small
devices can run it. What comes from a server is hostile until it is checked: each fault is a `CardRefused`, one line
with one word for the server, which quotes nothing but the public card.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedrec.audit.card import fields
from fedrec.audit.card.fields import FieldError
from fedrec.audit.log import checkpoint as checkpoint_note
from fedrec.audit.log import proofs
from fedrec.audit.log.checkpoint import Checkpoint
from fedrec.audit.log.envelope import SignedRecord
from fedrec.audit.log.keys import PublicKey
from fedrec.errors import InputError, VerificationError

TIME = "%Y-%m-%dT%H:%M:%SZ"
MOST_BYTES = 1 << 20
"""Bytes of a card with its proof."""
MOST_ROUNDS = 10_000_000
MOST_GROUPS = 20_000
"""Groups of rounds with the same terms."""
MOST_QUERIES = 64
"""Queries of a round."""
MOST_SIDES = 8
MOST_MULTIPLIER = 1e150
TRUST = ("central", "distributed", "local")
CLOSE = 1e-9
"""Relative error between a noise and the product of its multiplier and clip."""


class CardRefused(VerificationError):
    """A card or question that a device does not accept. code: one word for the server (`exchange.REFUSALS`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class QueryTerms:
    """The terms of one sum.

    Attributes:
        name: of the query.
        shape: of the sum.
        clip_norm: L2 bound of one user's whole contribution; None without privacy.
        noise_multiplier: standard deviation of the noise over the clip norm; 0 without privacy.
        noise_std: standard deviation of the noise on each number of the sum.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float | None
    noise_multiplier: float
    noise_std: float

    @property
    def size(self) -> int:
        """Numbers of the sum."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class RunCard:
    """A checked card.

    Attributes:
        run: id of the run, and of its ledger.
        key: the ledger's key, one of the device's pinned ones.
        serial: larger in a later card of the same key.
        expires: end of the card's validity, in UTC.
        fingerprint: of the run's description (`RunSpec.fingerprint`).
        algorithm: its name.
        dataset: the dataset's name.
        trust: the trust model.
        private: whether anything is guaranteed.
        epsilon: the promised bound; None without privacy.
        delta: the promised bound; None without privacy.
        sampling: probability that a user takes part in a round.
        users: declared size of the population, public.
        minimum_cohort: users expected in a round in which only the fewest nodes answer.
        nodes: nodes of the run.
        seeded: whether the noise follows from a seed and protects nobody.
        rounds: number of rounds.
        starts: first round of each group of rounds with the same terms.
        groups: the terms of each group, by query in the order of the round.
        mechanism: what adds the noise, as the first record names it.
        checkpoint: the signed checkpoint that the card was proven under.
    """

    run: str
    key: PublicKey
    serial: int
    expires: datetime
    fingerprint: str
    algorithm: str
    dataset: str
    trust: str
    private: bool
    epsilon: float | None
    delta: float | None
    sampling: float
    users: int
    minimum_cohort: int
    nodes: int
    seeded: bool
    rounds: int
    starts: tuple[int, ...]
    groups: tuple[tuple[QueryTerms, ...], ...]
    mechanism: str
    checkpoint: Checkpoint

    @property
    def expected_cohort(self) -> float:
        """Users expected in a round: the fixed denominator of every average."""
        return self.users * self.sampling

    @property
    def asking_rounds(self) -> int:
        """Number of rounds with at least one query."""
        ends = (*self.starts[1:], self.rounds)
        return sum(end - start for start, end, row in zip(self.starts, ends, self.groups, strict=True) if row)

    @property
    def largest_clip(self) -> float | None:
        """The largest clip norm of any query; None without privacy, and 0 for a run that asks nothing."""
        if not self.private:
            return None
        return max((query.clip_norm or 0.0 for row in self.groups for query in row), default=0.0)

    def terms(self, round_index: int) -> tuple[QueryTerms, ...]:
        """Return the terms of a round's queries. Raises: CardRefused for a round that the card does not have."""
        if not 0 <= round_index < self.rounds:
            raise CardRefused("terms", f"round {round_index}: the run card has rounds 0..{self.rounds - 1}")
        return self.groups[bisect.bisect_right(self.starts, round_index) - 1]

    def check_time(self, now: datetime) -> None:
        """Raises: CardRefused when the card has expired.

        Args:
            now: a time with a zone.
        """
        if now >= self.expires:
            raise CardRefused("expired", f"the run card expired on {self.expires.strftime(TIME)}")


def check_card(proof: str, keys: Sequence[PublicKey], now: datetime, witnesses: Sequence[PublicKey] = ()) -> RunCard:
    """Check a card from a server, and return its content.

    1. It is at most `MOST_BYTES` long, and a proof of one record under a signed checkpoint.
    2. The signer of checkpoint and record is a pinned key.
    3. One of `witnesses` cosigned the checkpoint, where there are any.
    4. The record is number 0, of the checkpoint's run, and names the key that signed it.
    5. Every field has its type and lies within its bounds; the groups of rounds cover every round once.
    6. It has not expired.

    Args:
        proof: the card's text.
        keys: pinned keys of ledgers.
        now: a time with a zone.
        witnesses: keys of witnesses, one of which must have cosigned; empty to demand none.
    Raises: CardRefused, one line.
    """
    proven, key = open_proof(proof, keys)
    record = proven.record
    if record is None or record.index != 0 or record.key_id != key.id or not record.signed_by(key):
        raise CardRefused("card", "the run card is not record 0 of a ledger, signed by the ledger's key")
    if witnesses and not any(proven.checkpoint.cosigned_at(each) is not None for each in witnesses):
        raise CardRefused("witness", "no witness of this node has cosigned the run card's checkpoint")
    card = read_card(record, proven.checkpoint, key)
    card.check_time(now)
    return card


def open_proof(proof: str, keys: Sequence[PublicKey], code: str = "card") -> tuple[proofs.Proven, PublicKey]:
    """Check a proof under one of `keys`.

    Args:
        proof: its text, of at most `MOST_BYTES`.
        keys: pinned keys of ledgers.
        code: the word of a refusal of what is no valid proof; `key` where no pinned key signed it.
    Returns: its content, and the key.
    Raises: CardRefused.
    """
    try:
        if len(proof) > MOST_BYTES or len(proof.encode()) > MOST_BYTES:
            raise CardRefused(code, f"a proof of more than {MOST_BYTES} bytes")
        sealed = checkpoint_note.parsed(proof.partition("\n\n")[2])
    except ValueError:  # a text that is no Unicode, too
        raise CardRefused(code, "a proof without a checkpoint of a ledger") from None
    signer = next((key for key in keys if sealed.signed_by(key)), None)
    if signer is None:
        raise CardRefused("key", "the run's ledger is signed by no key that this node has pinned")
    try:
        return proofs.check(proof, signer), signer
    except (InputError, VerificationError, RecursionError) as error:
        raise CardRefused(code, str(error) or "a proof that is nested too deep") from None


def read_card(record: SignedRecord, checkpoint: Checkpoint, key: PublicKey) -> RunCard:
    """Read the first record of a ledger as a card.

    Args:
        record: number 0, whose signature was checked.
        checkpoint: the signed checkpoint that it is under.
        key: the key that signed it.
    Raises: CardRefused when it has no card, or a field is wrong.
    """
    begin = record.payload
    try:
        if begin.get("type") != "begin" or "card" not in begin:
            raise FieldError("the ledger's first record has no run card")
        return _read(begin, record.run, checkpoint, key)
    except FieldError as error:
        raise CardRefused("card", f"run card: {error}") from None


def _read(begin: Mapping[str, Any], run: str, checkpoint: Checkpoint, key: PublicKey) -> RunCard:
    own = fields.table(begin, "card")
    (party,) = fields.items(begin, "parties", 1) or [None]
    if not isinstance(party, dict) or party.get("key") != key.text:
        raise FieldError("'parties' does not name the key that signs the ledger")
    trust, private = fields.text(begin, "trust"), fields.text(begin, "guarantee") != "none"
    if trust not in TRUST:
        raise FieldError(f"'trust' is none of {', '.join(TRUST)}")
    epsilon, delta = fields.decimal_or_none(begin, "target_epsilon"), fields.decimal_or_none(begin, "delta")
    if (epsilon is not None) != private or (delta is not None) != private:
        raise FieldError("'guarantee', 'target_epsilon' and 'delta' contradict each other")
    if delta is not None and not 0 < delta < 1:
        raise FieldError("'delta' is not between 0 and 1")
    sampling = fields.decimal(fields.table(begin, "sampling"), "probability")
    if not 0 < sampling <= 1:
        raise FieldError("'probability' is not above 0 and at most 1")
    rounds = fields.count(begin, "rounds", MOST_ROUNDS)
    starts, groups = _plan(begin, rounds, private)
    users = fields.count(fields.table(begin, "population"), "users")
    minimum = fields.count(own, "minimum_cohort")
    if minimum > users:
        raise FieldError("'minimum_cohort' exceeds the number of users")
    return RunCard(
        run=run,
        key=key,
        serial=fields.count(own, "serial"),
        expires=_time(own, "expires"),
        fingerprint=fields.digest(own, "fingerprint"),
        algorithm=fields.text(begin, "algorithm"),
        dataset=fields.text(begin, "dataset"),
        trust=trust,
        private=private,
        epsilon=epsilon,
        delta=delta,
        sampling=sampling,
        users=users,
        minimum_cohort=minimum,
        nodes=fields.count(own, "nodes", MOST_ROUNDS),
        seeded=fields.flag(begin, "seeded"),
        rounds=rounds,
        starts=starts,
        groups=groups,
        mechanism=fields.text(fields.table(begin, "mechanism"), "name"),
        checkpoint=checkpoint,
    )


def _plan(
    begin: Mapping[str, Any], rounds: int, private: bool
) -> tuple[tuple[int, ...], tuple[tuple[QueryTerms, ...], ...]]:
    starts, groups, next_round = [], [], 0
    for group in fields.items(begin, "plan", MOST_GROUPS):
        if not isinstance(group, dict):
            raise FieldError("'plan' has a group that is no object")
        span = fields.items(group, "rounds", 2)
        if len(span) != 2 or any(type(each) is not int for each in span) or span[0] != next_round or span[1] < span[0]:
            raise FieldError("'plan' does not cover every round once, in order")
        starts.append(next_round)
        groups.append(read_queries(group, private))
        next_round = span[1] + 1
    if next_round != rounds:
        raise FieldError("'plan' does not cover every round once, in order")
    return tuple(starts), tuple(groups)


def read_queries(values: Mapping[str, Any], private: bool) -> tuple[QueryTerms, ...]:
    """Read the field `queries` of a group of rounds, or of a charge. Raises: FieldError."""
    found = [_query(each, private) for each in fields.items(values, "queries", MOST_QUERIES)]
    if len({query.name for query in found}) < len(found):
        raise FieldError("'queries' names one query twice")
    return tuple(found)


def _query(values: Any, private: bool) -> QueryTerms:
    if not isinstance(values, dict):
        raise FieldError("'queries' has an entry that is no object")
    shape = fields.items(values, "shape", MOST_SIDES)
    if any(type(side) is not int or not 0 <= side <= fields.MOST_COUNT for side in shape):
        raise FieldError("'shape' is no list of whole numbers")
    clip, std = fields.decimal_or_none(values, "clip_norm"), fields.decimal(values, "noise_std")
    multiplier = fields.decimal(values, "noise_multiplier")
    if (clip is not None) != private:
        raise FieldError("'clip_norm' is there without privacy, or missing with it")
    if clip is not None and not (0 < clip <= MOST_MULTIPLIER and 0 < multiplier <= MOST_MULTIPLIER):
        raise FieldError("'clip_norm' or 'noise_multiplier' is 0, or out of bounds")
    if not math.isclose(std, multiplier * (clip or 0.0), rel_tol=CLOSE):
        raise FieldError("'noise_std' is not the multiplier times the clip norm")
    return QueryTerms(fields.text(values, "name"), tuple(shape), clip, multiplier, std)


def _time(values: Mapping[str, Any], name: str) -> datetime:
    given = fields.text(values, name, 40)
    try:
        found = datetime.strptime(given, TIME).replace(tzinfo=UTC)
    except ValueError:
        found = None
    if found is None or found.strftime(TIME) != given:
        raise FieldError(f"'{name}' is no time in UTC, as {TIME}")
    return found
