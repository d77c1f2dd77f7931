"""The messages of a secure sum among nodes (`fedrec.secagg`, aggregator `peers`), and what both sides derive alike.

| question | contains | answer, kind `masks` |
|---|---|---|
| `advertise` | the `sum` question without tensors; the roster; how many users of each node are asked | `Advertise` |
| `share` | `KeyList` | `Shares` |
| `masked` | the whole `sum` question, and the `Shares` for this node | `MaskedInput`, and the receipt |
| `confirm` | `Survivors` | `Confirmation` |
| `unmask` | `Confirmations` | `Unmasking` |

The round is sent nowhere: server and nodes derive it from the run card, the charge, the question, the roster and the
numbers of users. An honest node advertises only where its own number is right, and signs them all with its keys.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrec.errors import InputError
from fedrec.secagg import Assumption, Roster, Round
from fedrec.secagg.vectors import word
from fedrec.wire import Fact, Packet, WireError

ADVERTISE, SHARE, MASKED, CONFIRM, UNMASK = "advertise", "share", "masked", "confirm", "unmask"
STAGES = (ADVERTISE, SHARE, MASKED, CONFIRM, UNMASK)
MASKS = "masks"
"""Kind of an answer."""

MESSAGE, ROSTER = "message", "roster"
"""Tensors of bytes."""
COUNTS, CHARGE, HELD = "counts", "charge", "held"
"""Facts: users of each node; number of the record that charged the round; digests of the tensors that a node holds."""
KEY = 32
MOST_NODES = 100_000


@dataclass(frozen=True)
class Layout:
    """One vector for all sums of a round.

    A sum modulo 2^b is multiplied by 2^(bits - b), so that adding modulo 2^bits shows nothing but the sum modulo 2^b.

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

    def vector(self, sums: Mapping[str, Tensor]) -> NDArray[Any]:
        """Return the vector of sums, int64 modulo 2^b by query."""
        parts = [
            sums[name].cpu().numpy().reshape(-1).astype("<u8") << np.uint64(self.bits - b)
            for name, b, _ in self.queries
        ]
        return np.concatenate(parts).astype(word(self.bits))

    def sums(self, vector: NDArray[Any]) -> dict[str, Tensor]:
        """Return the sums in a vector: the inverse of `vector`."""
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
    """

    card: str
    question: str
    charge: int
    counts: tuple[int, ...]
    dropout: float
    colluding: float

    def round(self, roster: Roster, layout: Layout) -> Round:
        """Return the round. Raises: InputError where no round has these values."""
        nodes = len(roster.keys)
        if nodes != len(self.counts):
            raise InputError(f"a roster of {nodes} nodes, and numbers of users of {len(self.counts)}")
        model = json.dumps([self.question, self.counts, layout.queries])
        return Round(
            card=bytes.fromhex(self.card),
            model=hashlib.sha256(model.encode()).digest(),
            number=self.charge,
            roster=roster.root,
            cohort=tuple(range(nodes)),
            bits=layout.bits,
            length=layout.length,
            min_cohort=least_nodes(nodes, self.dropout),
            assumed=Assumption(self.colluding, self.dropout),
        )


def least_nodes(nodes: int, dropout: float) -> int:
    """Return the fewest nodes whose sum is revealed."""
    return max(2, nodes - int(dropout * nodes + 1e-9))


def ask_advertise(question: Packet, roster: Roster, counts: Sequence[int]) -> Packet:
    """Make the first question of a round from its `sum` question without tensors."""
    tensors = {**question.tensors, ROSTER: octets(b"".join(roster.keys))}
    return replace(
        question, kind=ADVERTISE, facts={**question.facts, COUNTS: json.dumps(list(counts))}, tensors=tensors
    )


def roster_of(packet: Packet) -> tuple[Roster, tuple[int, ...]]:
    """Return the roster and the numbers of users in an `advertise` question. Raises: WireError."""
    keys = content(packet, ROSTER)
    try:
        counts = json.loads(packet.fact(COUNTS, str))
        roster = Roster(tuple(keys[at : at + KEY] for at in range(0, len(keys), KEY)))
    except (ValueError, RecursionError, InputError):
        raise WireError("roster", "a question without a usable roster") from None
    if not isinstance(counts, list) or not 0 < len(counts) <= MOST_NODES or len(counts) != len(roster.keys):
        raise WireError("roster", "a question without the number of users of each node")
    if any(type(count) is not int or not 0 <= count < 1 << 31 for count in counts):
        raise WireError("roster", "a question with impossible numbers of users")
    return roster, tuple(counts)


def ask_masked(question: Packet, inbox: bytes) -> Packet:
    """Make the question for a masked vector from the whole `sum` question."""
    return replace(question, kind=MASKED, tensors={**question.tensors, MESSAGE: octets(inbox)})


def ask_stage(kind: str, fingerprint: str, round_index: int, charge: int, message: bytes) -> Packet:
    """Make the question of a stage `share`, `confirm` or `unmask`."""
    return Packet(kind, fingerprint, round_index, {CHARGE: charge}, {MESSAGE: octets(message)})


def answer(packet: Packet, message: bytes, facts: Mapping[str, Fact] | None = None) -> Packet:
    """Make a node's answer to a question of a secure sum."""
    return Packet(MASKS, packet.fingerprint, packet.round, dict(facts or {}), {MESSAGE: octets(message)})


def octets(data: bytes) -> Tensor:
    """Return bytes as a tensor, (n,) uint8."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)


def content(packet: Packet, name: str = MESSAGE) -> bytes:
    """Return the bytes of a message's tensor. Raises: WireError."""
    found = packet.tensors.get(name)
    if found is None or found.dtype != torch.uint8 or found.dim() != 1:
        raise WireError("stage", f"a message of kind '{packet.kind}' without bytes '{name}'")
    return found.numpy().tobytes()
