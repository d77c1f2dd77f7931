"""Which nodes there are and whose users they host: asked once, fixed for the run, so that the population is too.

Users have positions in the order of the nodes: shards of a dataset by their number, other nodes by how many users they
have, since a link that was started again has other ids. A shard
that comes back under another id takes its old place again, and no other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrec import wire
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.exchange import DataRequest
from fedrec.wire import Packet, WireError
from fedrec_server.flower.messenger import Messenger, TooFewNodes, log
from fedrec_server.pki.node_limits import Limits, check_claim

MOST_USERS = 10_000_000
"""Of one node, whatever its key is good for: a number beyond is an attempt on the server's memory."""


HELLO_SECONDS = 30.0
"""For an answer to a hello, so that one silent node keeps nobody waiting for long; one that still reads a large dataset
is asked again, and has it then."""


@dataclass(frozen=True)
class Node:
    """One node: its place, where its users' positions begin, how many there are. place: of a shard, or -1."""

    place: int
    first: int
    users: int


class NodeDirectory:
    """The nodes of a run by Flower's id. limits: what nodes may claim; None where no folder of keys is known."""

    def __init__(self, nodes: Sequence[Node], ids: Sequence[int], limits: Limits | None = None) -> None:
        self.nodes = tuple(nodes)
        self.ids = list(ids)
        self._limits = limits
        self._again: dict[int, float] = {}

    @classmethod
    def gather(
        cls,
        messenger: Messenger,
        request: DataRequest,
        catalogue: str,
        wanted: int,
        patience: float,
        before: Sequence[dict[str, int]] | None = None,
        limits: Limits | None = None,
    ) -> "NodeDirectory":
        """Wait until `wanted` nodes have said hello. before: the nodes of a run that is resumed, from `described`.

        catalogue: the digest that every node must hold. limits: what nodes may claim.

        Raises: TooFewNodes when they do not come in time; InputError for nodes that do not fit together, or not the
        run that is resumed.
        """
        found: dict[int, Packet] = {}
        refused: dict[int, str] = {}
        until = messenger.clock() + patience
        while len(found) < wanted and messenger.clock() < until:
            new = messenger.online() - found.keys() - refused.keys()
            found |= _hello(messenger, request, new, until, catalogue, refused, limits)
            if len(found) < wanted:
                messenger.wait()
        if len(found) < wanted:
            why = f" ({len(refused)} refused: {next(iter(refused.values()))})" if refused else ""
            raise TooFewNodes(
                f"{len(found)} of {wanted} nodes were there after {patience:.0f} s{why}; start the others, or lower "
                "engine.nodes"
            )
        ids = sorted(found, key=lambda node: (found[node].facts["place"], found[node].facts["users"], node))[:wanted]
        places = [int(found[node].facts["place"]) for node in ids]
        shards = [place for place in places if place >= 0]
        if len(set(shards)) < len(shards):
            raise InputError("two nodes host the same shard; give each its own partition-id")
        users = [int(found[node].facts["users"]) for node in ids]
        firsts = np.concatenate([[0], np.cumsum(users)]).tolist()
        made = cls([Node(*each) for each in zip(places, firsts, users, strict=False)], ids, limits)
        if before is not None and list(before) != made.described():
            raise InputError("the nodes are not those that the run began with; start the same ones, or a new run")
        return made

    @property
    def users(self) -> int:
        """Of all nodes."""
        return sum(node.users for node in self.nodes)

    def described(self) -> list[dict[str, int]]:
        """JSON-able: what must be the same for a run to go on."""
        return [{"place": node.place, "users": node.users} for node in self.nodes]

    def split(self, cohort: np.ndarray) -> dict[int, np.ndarray]:
        """The cohort by index of the node, as positions among its own users; empty for a node without any."""
        bounds = np.searchsorted(cohort, [node.first for node in self.nodes] + [self.users])
        return {n: cohort[bounds[n] : bounds[n + 1]] - node.first for n, node in enumerate(self.nodes)}

    def welcome(self, messenger: Messenger, request: DataRequest, catalogue: str, until: float) -> set[int]:
        """Indices of the nodes that are online; a known shard under a new id takes its place again."""
        online = messenger.online()
        new, lost = online - set(self.ids), [n for n, known in enumerate(self.ids) if known not in online]
        shards = {self.nodes[n].place: n for n in lost if self.nodes[n].place >= 0}
        new = {node for node in new if self._again.get(node, -math.inf) <= messenger.clock()}
        if new and shards:
            self._again |= dict.fromkeys(
                new, messenger.clock() + 2 * HELLO_SECONDS
            )  # a stranger is not asked all the time
            for node, packet in _hello(messenger, request, new, until, catalogue, {}, self._limits).items():
                n = shards.pop(int(packet.facts["place"]), None)
                if n is not None and self.nodes[n].users == packet.facts["users"]:
                    self.ids[n] = node
        return {n for n, known in enumerate(self.ids) if known in online}


def _hello(
    messenger: Messenger,
    request: DataRequest,
    nodes: set[int],
    until: float,
    catalogue: str,
    refused: dict[int, str],
    limits: Limits | None,
) -> dict[int, Packet]:
    found = {}
    allowed = None if limits is None or not nodes else limits()
    record = wire.to_record(exchange.ask_hello(request))
    until = min(until, messenger.clock() + HELLO_SECONDS)
    for node, packet in messenger.ask(dict.fromkeys(sorted(nodes), record), "query", "hello", until):
        try:
            presence = _checked(packet, catalogue)
            if allowed is not None:
                check_claim(allowed, node, int(presence.facts["users"]), int(presence.facts["place"]))
            found[node] = presence
        except WireError as error:
            refused[node] = str(error)
            messenger.dropped(error.code, "hello", node)
            log.warning("node %d cannot take part: %s", node, error)
    return found


def _checked(packet: Packet, catalogue: str) -> Packet:
    if packet.kind == exchange.REFUSAL and packet.version == wire.VERSION:
        raise refused_by_node(packet)
    packet.expect(exchange.PRESENCE)
    if packet.fact("users", int) < 0 or packet.fact("users", int) > MOST_USERS or packet.fact("place", int) < -1:
        raise WireError("facts", "a presence that cannot be")
    if packet.fact("catalogue", str) != catalogue:
        raise WireError("catalogue", exchange.REFUSALS["catalogue"])
    return packet


def refused_by_node(packet: Packet) -> WireError:
    """What a node's refusal says, in our words."""
    code: Any = packet.facts.get("code")
    known = code if isinstance(code, str) and code in exchange.REFUSALS else "request"
    return WireError(f"refused, {known}", exchange.REFUSALS[known])
