"""All parties of a round in one process: for simulations, tests and as the order of calls for a transport."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedrec.errors import InputError
from fedrec.secagg.helper_parties import Helper, HelperServer, helper_input
from fedrec.secagg.journal import MemoryJournal
from fedrec.secagg.outcome import Refused, Total, Void
from fedrec.secagg.parameters import Assumption
from fedrec.secagg.peer_client import PeerClient, Stage
from fedrec.secagg.peer_server import PeerServer
from fedrec.secagg.roster import Roster
from fedrec.secagg.round import Round

Aggregator = Literal["peers", "helper"]


@dataclass(frozen=True)
class Members:
    """Members with their keys and journals, and a helper; made once for all rounds of a simulation."""

    keys: tuple[Ed25519PrivateKey, ...]
    roster: Roster
    journals: tuple[MemoryJournal, ...]
    helper: X25519PrivateKey
    helper_journal: MemoryJournal = field(default_factory=MemoryJournal)

    @classmethod
    def generate(cls, count: int) -> "Members":
        """Return `count` new members and a helper."""
        keys = tuple(Ed25519PrivateKey.generate() for _ in range(count))
        roster = Roster(tuple(key.public_key().public_bytes_raw() for key in keys))
        journals = tuple(MemoryJournal() for _ in range(count))
        return cls(keys, roster, journals, X25519PrivateKey.generate())


def aggregate_in_memory(
    vectors: Mapping[int, NDArray],
    bits: int,
    *,
    aggregator: Aggregator = "peers",
    dropouts: Mapping[int, Stage] | None = None,
    min_cohort: int = 2,
    assumed: Assumption = Assumption(),
    members: Members | None = None,
    card: bytes = bytes(32),
    model: bytes = bytes(32),
    number: int | None = None,
) -> Total | Void:
    """Sum vectors as a server and real members would.

    Every message passes through its bytes. A round of 1,000 members takes some seconds with `helper`, and more than a
    minute among `peers`, which all compute here.

    Args:
        vectors: place of each member of the cohort to its vector, shape (length,), uint32 up to 32 bits, else uint64.
        bits: the sum is modulo 2**bits.
        aggregator: `peers` or `helper`.
        dropouts: member to the first stage that it does not answer; a helper's round has one stage, and a member that
            drops in any of them has no part in its sum, except in those after `MASK`.
        min_cohort: fewer survivors void the round.
        assumed: for the graph of `peers`.
        members: of all rounds; None makes new ones.
        card, model: digests of 32 bytes that all keys depend on.
        number: of the round, new for these members; None draws one.

    Returns:
        The total, equal bit for bit to the plain sum of the survivors' vectors modulo 2**bits, or a void round.

    Raises: InputError for vectors that do not fit, PrivacyError where no graph protects such a cohort, Refused for a
        number that the members answered before.

    >>> import numpy as np
    >>> found = aggregate_in_memory({n: np.full(3, n, np.uint32) for n in range(8)}, 16, dropouts={5: Stage.MASK})
    >>> found.vector, len(found.survivors)
    (array([23, 23, 23], dtype=uint32), 7)
    """
    if not vectors:
        raise InputError("no vectors: an aggregation has at least two members")
    cohort = tuple(sorted(vectors))
    members = members or Members.generate(cohort[-1] + 1)
    number = secrets.randbits(62) if number is None else number
    key = members.helper.public_key().public_bytes_raw() if aggregator == "helper" else b""
    length = len(vectors[cohort[0]])
    this_round = Round(
        card, model, number, members.roster.root, cohort, bits, length, min_cohort, assumed, bytes(32), helper=key
    )
    run = _with_helper if aggregator == "helper" else _among_peers
    return run(this_round, members, vectors, dropouts or {})


def _among_peers(
    this_round: Round, members: Members, vectors: Mapping[int, NDArray], dropouts: Mapping[int, Stage]
) -> Total | Void:
    server = PeerServer(this_round, members.roster)
    clients = {
        member: PeerClient(this_round, members.roster, member, members.keys[member].sign, members.journals[member])
        for member in this_round.cohort
    }

    def here(stage: Stage, among: Iterable[int]) -> list[int]:
        return [member for member in among if dropouts.get(member, Stage.DONE) > stage]

    keys = server.advertised(
        _carried(clients[member].advertise()) for member in here(Stage.ADVERTISE, this_round.cohort)
    )
    if isinstance(keys, Void):
        return keys
    shares = []
    for member in here(Stage.SHARE, keys):
        try:
            shares.append(_carried(clients[member].share(_carried(keys[member]))))
        except Refused:  # too few neighbours are left: it has dropped
            continue
    boxes = server.shared(shares)
    if isinstance(boxes, Void):
        return boxes
    for member in here(Stage.MASK, boxes):
        try:
            server.masked(_carried(clients[member].mask(vectors[member], _carried(boxes[member]))))
        except Refused:
            continue
    survivors = server.survivors()
    if isinstance(survivors, Void):
        return survivors
    signed = []
    for member in here(Stage.CONFIRM, survivors.members):
        try:
            signed.append(_carried(clients[member].confirm(_carried(survivors))))
        except Refused:
            continue
    confirmations = server.confirmed(signed)
    if isinstance(confirmations, Void):
        return confirmations
    answers = []
    for member in here(Stage.UNMASK, confirmations):
        try:
            answers.append(_carried(clients[member].unmask(_carried(confirmations[member]))))
        except Refused:
            continue
    return server.unmasked(answers)


def _with_helper(
    this_round: Round, members: Members, vectors: Mapping[int, NDArray], dropouts: Mapping[int, Stage]
) -> Total | Void:
    server = HelperServer(this_round, members.roster)
    for member in this_round.cohort:
        if dropouts.get(member, Stage.DONE) > Stage.MASK:
            sign, journal = members.keys[member].sign, members.journals[member]
            server.masked(_carried(helper_input(this_round, members.roster, member, sign, journal, vectors[member])))
    request = server.request(b"")
    if isinstance(request, Void):
        return request
    helper = Helper(members.helper, members.roster, _no_ledger, members.helper_journal)
    return server.total(_carried(helper.open(_carried(request))))


class _Message(Protocol):
    def encode(self) -> bytes: ...
    @classmethod
    def decode(cls, data: bytes) -> Self: ...


Sent = TypeVar("Sent", bound=_Message)


def _carried(message: Sent) -> Sent:
    """Return the message as its receiver reads it."""
    return type(message).decode(message.encode())


def _no_ledger(this_round: Round, charge: bytes) -> None:
    """Accept every round: in memory, the caller itself charges before it aggregates."""
