"""A group of members under one round, a server that plays fair up to a stage, and a journal in a file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrec.secagg import Assumption, Members, MemoryJournal, PeerClient, PeerServer, Round, Survivors
from fedrec.secagg.peer_messages import KeyList, MaskedInput, Shares
from fedrec.secagg.vectors import word

CARD, MODEL = b"c" * 32, b"m" * 32


class FileJournal:
    """A journal that survives a restart: a line for each claim."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, name: bytes, value: bytes) -> bytes | None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = {bytes.fromhex(line.split()[0]): bytes.fromhex(line.split()[1]) for line in lines}
        if name not in kept:
            with self.path.open("a") as file:
                file.write(f"{name.hex()} {value.hex()}\n")
        return kept.get(name)


def round_of(members: Members, **changes: Any) -> Round:
    """A round of all members with an 18-bit vector of 40 elements."""
    cohort = tuple(range(len(members.keys)))
    plain = Round(CARD, MODEL, 7, members.roster.root, cohort, 18, 40, 3, Assumption(0.05, 0.3))
    return replace(plain, **changes)


def uniform(this_round: Round, seed: int = 0) -> dict[int, NDArray]:
    """A random vector for each member of the cohort."""
    draw = np.random.default_rng(seed)
    top = np.uint64((1 << this_round.bits) - 1)
    shape, kind = this_round.length, word(this_round.bits)
    words = (draw.integers(0, 1 << 64, shape, np.uint64, endpoint=False) for _ in this_round.cohort)
    return dict(zip(this_round.cohort, ((each & top).astype(kind) for each in words), strict=True))


def plain_sum(vectors: dict[int, NDArray], members: Any, bits: int) -> list[int]:
    """The slow oracle: Python integers, one by one."""
    rows = [vectors[member].tolist() for member in members]
    return [sum(column) % (1 << bits) for column in zip(*rows, strict=True)]


@dataclass
class Play:
    """A round of `peers` up to a stage. boxes, keys, masked: what each member got or sent."""

    members: Members
    round: Round
    vectors: dict[int, NDArray]
    server: PeerServer
    clients: dict[int, PeerClient]
    keys: dict[int, KeyList]
    boxes: dict[int, Shares]
    masked: dict[int, MaskedInput]

    def survivors(self) -> Survivors:
        found = self.server.survivors()
        assert isinstance(found, Survivors)
        return found


def client_of(members: Members, this_round: Round, member: int, journal: Any = None) -> PeerClient:
    return PeerClient(this_round, members.roster, member, members.keys[member].sign, journal or MemoryJournal())


def play(members: Members, this_round: Round, *, until: str = "mask", late: tuple[int, ...] = ()) -> Play:
    """Play fair until the members advertised, shared or masked; `late` members share, and send no vector."""
    server, vectors = PeerServer(this_round, members.roster), uniform(this_round)
    clients = {member: client_of(members, this_round, member) for member in this_round.cohort}
    found = Play(members, this_round, vectors, server, clients, {}, {}, {})
    keys = server.advertised(client.advertise() for client in clients.values())
    assert isinstance(keys, dict)
    found.keys = keys
    if until == "advertise":
        return found
    boxes = server.shared(clients[member].share(keys[member]) for member in clients)
    assert isinstance(boxes, dict)
    found.boxes = boxes
    if until == "share":
        return found
    for member, client in clients.items():
        if member not in late:
            found.masked[member] = client.mask(vectors[member], boxes[member])
            server.masked(found.masked[member])
    return found


Attack = Callable[[Play], Any]
