"""The messages of a secure sum among nodes (`fedrec.secagg`), and what both sides derive alike.

| question | contains | answer, kind `masks` |
|---|---|---|
| `advertise` | the `sum` question without tensors; the roster; how many users of each node are asked | `Advertise` |
| `share` | `KeyList` | `Shares` |
| `masked` | the whole `sum` question, the numbers of users, and the `Shares` for this node | `MaskedInput`, a receipt |
| `confirm` | `Survivors` | `Confirmation` |
| `unmask` | `Confirmations` | `Unmasking` |
| `helped` | alone, with a helper: the whole `sum` question, roster, numbers of users | `HelperInput`, and the receipt |

The round is sent nowhere: server and nodes derive it from the run card, the charge, the question, the roster and the
numbers of users. An honest node masks only where its own number is right, and signs them all with the survivors.

The keys of the next round travel ahead: `masked` is answered with an `Advertise` for it, `confirm` contains the
`KeyList` and is answered with `Shares`. So a round after a whole one begins with `masked`, and has three stages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrec import wire
from fedrec.errors import InputError
from fedrec.run.secure_round import least_nodes, model_digest, one_vector
from fedrec.secagg import Assumption, Roster, Round
from fedrec.wire import Fact, Packet, WireError

if TYPE_CHECKING:
    from torch import Tensor

ADVERTISE, SHARE, MASKED, CONFIRM, UNMASK = "advertise", "share", "masked", "confirm", "unmask"
HELPED = "helped"
STAGES = (ADVERTISE, SHARE, MASKED, CONFIRM, UNMASK)
MASKS = "masks"
"""Kind of an answer."""

MESSAGE, ROSTER = "message", "roster"
"""Facts of bytes: a message of the protocol; the nodes' keys. A masked vector is the tensor `MESSAGE`."""
COUNTS, CHARGE, HELD = "counts", "charge", "held"
"""Facts: users of each node; number of the record that charged the round; digests of the tensors that a node holds."""
NEXT, AHEAD = "next", "ahead"
"""Facts: a message of the next round's keys; number of the charge during whose round this one's keys were made."""
KEY = 32
MOST_NODES = 100_000
GRINDING = 40
"""The bounds of the graph hold for a server that looks through 2^40 rings."""


@dataclass(frozen=True)
class Layout:
    """One vector for all sums of a round (`fedrec.run.secure_round.one_vector`).

    Attributes:
        queries: name, bits of the modulus and shape of each sum, in the order of the round.
    """

    queries: tuple[tuple[str, int, tuple[int, ...]], ...]

    @property
    def bits(self) -> int:
        """Of the vector's modulus."""
        return max(bits for _, bits, _ in self.queries)

    @property
    def length(self) -> int:
        """Elements of the vector."""
        return sum(int(np.prod(shape)) for _, _, shape in self.queries)

    def vector(self, sums: "Mapping[str, Tensor | np.ndarray]") -> NDArray[Any]:
        """Return the vector of sums, int64 modulo 2^b by query."""
        return one_vector([(wire.numpy_of(sums[name]), b) for name, b, _ in self.queries], self.bits)

    def sums(self, vector: NDArray[Any]) -> "dict[str, Tensor]":
        """Return the sums in a vector: the inverse of `vector`."""
        import torch

        found, start = {}, 0
        for name, bits, shape in self.queries:
            end = start + int(np.prod(shape))
            values = vector[start:end].astype("<u8") >> np.uint64(self.bits - bits)
            found[name], start = torch.from_numpy(values.astype(np.int64)).view(shape), end
        return found


@dataclass(frozen=True)
class Asked:
    """What a round follows from.

    Attributes:
        card: digest (hex) of the run card.
        question: digest (hex) of what all nodes are asked (`fedrec.audit.card.receipt.question_digest`).
        charge: number of the record that charged the round.
        counts: users of each node who are asked, in the order of the roster.
        dropout: part of a cohort that may be missing.
        colluding: part of it that may work with the server.
        ahead: number of the charge during whose round the keys were made; None for keys of this round.
    """

    card: str
    question: str
    charge: int
    counts: tuple[int, ...]
    dropout: float
    colluding: float
    ahead: int | None = None

    def round(self, roster: Roster, layout: Layout, helper: bytes = b"") -> Round:
        """Return the round. Raises: InputError where no round has these values.

        Args:
            roster: keys of all nodes.
            layout: of the round's vector.
            helper: X25519 key of the helper; empty where nodes keep the masks.
        """
        nodes = len(roster.keys)
        if nodes != len(self.counts):
            raise InputError(f"a roster of {nodes} nodes, and numbers of users of {len(self.counts)}")
        return Round(
            card=bytes.fromhex(self.card),
            model=model_digest(self.question, self.counts, layout.queries),
            number=self.charge,
            roster=roster.root,
            cohort=tuple(range(nodes)),
            bits=layout.bits,
            length=layout.length,
            min_cohort=least_nodes(nodes, self.dropout),
            assumed=assumption(self.colluding, self.dropout),
            ahead=self.ahead,
            helper=helper,
        )


def assumption(colluding: float, dropout: float) -> Assumption:
    """Return what a run assumes of its nodes. The ring follows from what the server chooses, so it may try many."""
    return Assumption(colluding, dropout, grinding=GRINDING)


def ask_helped(question: Packet, roster: Roster, counts: Sequence[int]) -> Packet:
    """Make the only question of a round with a helper from the whole `sum` question."""
    return replace(ask_advertise(question, roster, counts), kind=HELPED)


def ask_advertise(question: Packet, roster: Roster, counts: Sequence[int]) -> Packet:
    """Make the first question of a round from its `sum` question without tensors."""
    facts = {**question.facts, COUNTS: json.dumps(list(counts)), ROSTER: b"".join(roster.keys)}
    return replace(question, kind=ADVERTISE, facts=facts)


def roster_of(packet: Packet) -> tuple[Roster, tuple[int, ...]]:
    """Return the roster and the numbers of users in an `advertise` question. Raises: WireError."""
    keys = packet.fact(ROSTER, bytes)
    try:
        roster = Roster(tuple(keys[at : at + KEY] for at in range(0, len(keys), KEY)))
    except InputError:
        raise WireError("roster", "a question without a usable roster") from None
    counts = counts_of(packet)
    if len(counts) != len(roster.keys):
        raise WireError("roster", "a question without the number of users of each node")
    return roster, counts


def counts_of(packet: Packet) -> tuple[int, ...]:
    """Return the users of each node who are asked. Raises: WireError."""
    try:
        counts = json.loads(packet.fact(COUNTS, str))
    except (ValueError, RecursionError):
        counts = None
    if not isinstance(counts, list) or not 0 < len(counts) <= MOST_NODES:
        raise WireError("roster", "a question without the number of users of each node")
    if any(type(count) is not int or not 0 <= count < 1 << 31 for count in counts):
        raise WireError("roster", "a question with impossible numbers of users")
    return tuple(counts)


def ask_masked(question: Packet, counts: Sequence[int], inbox: bytes, ahead: int | None = None) -> Packet:
    """Make the question for a masked vector from the whole `sum` question."""
    facts = {**question.facts, COUNTS: json.dumps(list(counts)), MESSAGE: inbox}
    return replace(question, kind=MASKED, facts=facts if ahead is None else {**facts, AHEAD: ahead})


def ahead_of(packet: Packet) -> int | None:
    """Return when the keys of a question's round were made; None for keys of this round. Raises: WireError."""
    return packet.fact(AHEAD, int) if AHEAD in packet.facts else None


def ask_stage(
    kind: str, fingerprint: str, round_index: int, charge: int, message: bytes, following: bytes | None = None
) -> Packet:
    """Make the question of a stage `share`, `confirm` or `unmask`. following: keys of the next round."""
    facts: dict[str, Fact] = {CHARGE: charge, MESSAGE: message}
    return Packet(kind, fingerprint, round_index, facts if following is None else {**facts, NEXT: following})


def answer(packet: Packet, message: bytes, facts: Mapping[str, Fact] | None = None) -> Packet:
    """Make a node's answer to a question of a secure sum."""
    return Packet(MASKS, packet.fingerprint, packet.round, {**(facts or {}), MESSAGE: message})


def octets(data: bytes) -> np.ndarray:
    """Return bytes as an array, (n,) uint8, which travels as a tensor does."""
    return np.frombuffer(data, np.uint8)


def content(packet: Packet) -> bytes:
    """Return a message's bytes. Raises: WireError."""
    found: bytes = packet.fact(MESSAGE, bytes)
    return found


def following(packet: Packet) -> bytes | None:
    """Return a message's part about the keys of the next round; None without one."""
    found = packet.facts.get(NEXT)
    return found if isinstance(found, bytes) else None


def masked_content(packet: Packet) -> bytes:
    """Return the bytes of a masked vector, to which the receipt commits. Raises: WireError."""
    found = wire.octets_of(packet.tensors.get(MESSAGE))
    if found is None:
        raise WireError("stage", f"a message of kind '{packet.kind}' without a masked vector")
    return found.tobytes()
