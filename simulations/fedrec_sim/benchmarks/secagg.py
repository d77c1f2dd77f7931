"""What secure aggregation costs: CPU seconds and bytes of a member, the server and a helper.

One member of a cohort, and one helper, are measured whole. The server of `peers` is measured over a whole round with
the real messages of every stage; only the vectors that it adds are ready ones, which cost it the same. For comparison:
the plain sum of vectors in the same packed form.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedrec.secagg import (
    Advertise,
    Assumption,
    Confirmation,
    Confirmations,
    Helper,
    HelperInput,
    HelperServer,
    KeyList,
    MaskedInput,
    Members,
    MemoryJournal,
    Opening,
    OpenRequest,
    PeerClient,
    PeerServer,
    Round,
    Shares,
    Stage,
    Survivors,
    Void,
    helper_input,
    shamir,
    vectors,
)
from fedrec.secagg.peer_keys import agreed, channel, commitment, confirmed


@dataclass(frozen=True)
class Cost:
    """A row of the benchmark.

    Attributes:
        who: client, server or helper.
        what: peers, helper, unmasked or flower.
        cohort: members.
        neighbours: of each in the graph of `peers`; 0 elsewhere.
        length: elements of a vector.
        cpu_seconds: of a whole round; for a client the median of the repetitions.
        bytes_up, bytes_down: sent and received by a client or a helper; received and sent by a server. None where the
            program has no form on the wire of its own.
        composed: a sum of measured parts, and no run of the whole.
    """

    who: str
    what: str
    cohort: int
    neighbours: int
    length: int
    cpu_seconds: float
    bytes_up: int | None
    bytes_down: int | None
    composed: bool = False


class _Meter:
    """CPU seconds and bytes of one party."""

    def __init__(self) -> None:
        self.seconds, self.up, self.down = 0.0, 0, 0

    def run(self, work: Callable[[], Any]) -> Any:
        """Return what `work` gives, and count its CPU time."""
        began = time.process_time()
        found = work()
        self.seconds += time.process_time() - began
        return found

    def sent(self, work: Callable[[], Any]) -> bytes:
        """Return the encoded message that `work` gives, and count its bytes, too."""
        found: bytes = self.run(lambda: work().encode())
        self.up += len(found)
        return found

    def got(self, message: bytes) -> bytes:
        """Count a received message."""
        self.down += len(message)
        return message


class _Ready(PeerClient):
    """A member that sends a ready vector: it answers as every other one, without the masks."""

    def ready(self, inbox: Shares, packed: bytes) -> MaskedInput:
        """Return the message of stage 3 with the vector `packed`."""
        with self._turn(Stage.MASK):
            self._open(inbox)
            return MaskedInput(self.member, commitment(self.round, self._secret, self.member), packed)

    def seal(self, other: Advertise) -> bytes:
        """Return two random shares, sealed for another member."""
        secret = agreed(self._channel_key, other.channel)
        plain = (bytes(1) + os.urandom(shamir.SHARE - 1)) * 2
        return AESGCM(channel(self.round, secret, self.member, other.sender)).encrypt(bytes(12), plain, None)


def round_of(members: Members, cohort: int, length: int, bits: int, assumed: Assumption, helper: bool) -> Round:
    """Return a round of the first members."""
    key = members.helper.public_key().public_bytes_raw() if helper else b""
    zero = bytes(32)
    return Round(
        zero, zero, 1, members.roster.root, tuple(range(cohort)), bits, length, 2, assumed, beacon=zero, helper=key
    )


def vector_of(this_round: Round) -> NDArray:
    """Return a random vector of the round."""
    drawn = np.random.default_rng(0).integers(0, 1 << 63, this_round.length, np.uint64)
    return vectors.reduce(drawn.astype(vectors.word(this_round.bits)), this_round.bits)


def peer_client(members: Members, this_round: Round, repeat: int) -> Cost:
    """Measure all stages of member 0; its neighbours' messages are made before."""
    vector, survivors = vector_of(this_round), Survivors(this_round.cohort).encode()
    text = confirmed(this_round, Survivors(this_round.cohort))
    near = {member: _ready(members, this_round, member) for member in this_round.neighbours(0)}
    keys = KeyList(tuple(each.advertise() for each in near.values())).encode()
    signed = Confirmations(tuple(Confirmation(n, members.keys[n].sign(text)) for n in near)).encode()

    def once() -> _Meter:
        meter, sign = _Meter(), members.keys[0].sign
        client = meter.run(lambda: PeerClient(this_round, members.roster, 0, sign, MemoryJournal()))
        own = Advertise.decode(meter.sent(client.advertise))
        meter.sent(lambda: client.share(KeyList.decode(meter.got(keys))))
        inbox = Shares(0, tuple((n, each.seal(own)) for n, each in near.items())).encode()
        meter.sent(lambda: client.mask(vector, Shares.decode(meter.got(inbox))))
        meter.sent(lambda: client.confirm(Survivors.decode(meter.got(survivors))))
        meter.sent(lambda: client.unmask(Confirmations.decode(meter.got(signed))))
        return meter

    meters = [once() for _ in range(repeat)]
    return _median("client", "peers", this_round, meters, this_round.parameters.neighbours)


def peer_server(members: Members, this_round: Round, dropped: int) -> Cost:
    """Measure the server over a round in which the first `dropped` members share, and send no vector.

    Raises: RuntimeError when the round is void.
    """
    meter, packed = _Meter(), vectors.pack(vector_of(this_round), this_round.bits)
    server = meter.run(lambda: PeerServer(this_round, members.roster))
    clients = {member: _ready(members, this_round, member) for member in this_round.cohort}

    def stage(work: Callable[..., Any], messages: Iterable[Any]) -> Any:
        given = list(messages)
        kind, sent = type(given[0]), [message.encode() for message in given]
        meter.up += sum(map(len, sent))
        found = _whole(meter.run(lambda: work([kind.decode(each) for each in sent])))
        if isinstance(found, dict):
            meter.run(lambda: [meter.got(each.encode()) for each in found.values()])
        return found

    def add(message: bytes) -> None:
        meter.up += len(message)
        meter.run(lambda: server.masked(MaskedInput.decode(message)))

    keys = stage(server.advertised, (client.advertise() for client in clients.values()))
    boxes = stage(server.shared, (client.share(keys[member]) for member, client in clients.items()))
    for member in this_round.cohort[dropped:]:
        add(clients[member].ready(boxes[member], packed).encode())
    survivors = _whole(meter.run(server.survivors))
    meter.down += len(survivors.encode()) * len(survivors.members)
    alive = {member: clients[member] for member in survivors.members}
    signed = stage(server.confirmed, (each.confirm(survivors) for each in alive.values()))
    stage(server.unmasked, (each.unmask(signed[member]) for member, each in alive.items()))
    return _median("server", "peers", this_round, [meter], this_round.parameters.neighbours)


def with_helper(members: Members, this_round: Round, repeat: int) -> list[Cost]:
    """Measure a member, the server and the helper of a round in which nobody drops.

    Raises: RuntimeError when the round is void or the total is wrong.
    """
    vector, ours, theirs = vector_of(this_round), _Meter(), _Meter()
    server = ours.run(lambda: HelperServer(this_round, members.roster))

    def add(member: int) -> _Meter:
        meter, sign = _Meter(), members.keys[member].sign
        message = meter.sent(lambda: helper_input(this_round, members.roster, member, sign, MemoryJournal(), vector))
        ours.up += len(message)
        ours.run(lambda: server.masked(HelperInput.decode(message)))
        return meter

    clients = [add(member) for member in this_round.cohort][:repeat]
    helper = Helper(members.helper, members.roster, _any_charge, MemoryJournal())
    request = ours.run(lambda: _whole(server.request(b"")).encode())
    opening = theirs.sent(lambda: helper.open(OpenRequest.decode(theirs.got(request))))
    ours.up, ours.down = ours.up + len(opening), len(request)
    total = _whole(ours.run(lambda: server.total(Opening.decode(opening))))
    expected = vectors.reduce(vector * vector.dtype.type(len(this_round.cohort)), this_round.bits)
    if not np.array_equal(total.vector, expected):
        raise RuntimeError("the total is not the sum of the vectors")
    return [
        _median("client", "helper", this_round, clients),
        _median("server", "helper", this_round, [ours]),
        _median("helper", "helper", this_round, [theirs]),
    ]


def _any_charge(this_round: Round, charge: bytes) -> None:
    """Accept the round: what a proof costs is measured by `fedrec bench ledger`."""


def unmasked(this_round: Round, repeat: int) -> list[Cost]:
    """Measure the same sum without masks: a client packs its vector, the server unpacks and adds."""
    vector, clients, server = vector_of(this_round), [], _Meter()
    for _ in range(repeat):
        meter = _Meter()
        packed = meter.run(lambda: vectors.pack(vector, this_round.bits))
        meter.up = len(packed)
        clients.append(meter)
    total = np.zeros_like(vector)
    for _ in this_round.cohort:
        server.up += len(packed)
        server.run(lambda: np.add(total, vectors.unpack(packed, this_round.bits, this_round.length), out=total))
    return [_median("client", "unmasked", this_round, clients), _median("server", "unmasked", this_round, [server])]


def _ready(members: Members, this_round: Round, member: int) -> _Ready:
    return _Ready(this_round, members.roster, member, members.keys[member].sign, MemoryJournal())


def _whole(found: Any) -> Any:
    if isinstance(found, Void):
        raise RuntimeError(found.reason)
    return found


def _median(who: str, what: str, this_round: Round, meters: list[_Meter], neighbours: int = 0) -> Cost:
    seconds = statistics.median(meter.seconds for meter in meters)
    one = meters[0]
    return Cost(who, what, len(this_round.cohort), neighbours, this_round.length, seconds, one.up, one.down)
