"""The nodes of a run and their numbers of users, queried once and then fixed, as is the population.

Users have positions in the order of the nodes. Shards of a dataset are ordered by their number, other nodes by their
number of users, since a restarted link has other ids. A shard that returns under another id takes its old place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedrec import wire
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.run.masked import KEY
from fedrec.transport.node_key import NodePublicKey
from fedrec.wire import Packet, WireError
from fedrec_server.flower.messenger import Messenger, TooFewNodes, log
from fedrec_server.pki import node_limits
from fedrec_server.pki.node_limits import Limits, check_claim

MOST_USERS = 10_000_000
"""Most users of one node, whatever its key allows: a larger number would exhaust the server's memory."""


HELLO_SECONDS = 30.0
"""Seconds to wait for an answer to a hello. A silent node then delays nobody for long. A node that still reads a large
dataset gets another hello later."""


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        place: number of its shard, or -1.
        first: position of its first user.
        users: number of its users.
    """

    place: int
    first: int
    users: int


class NodeDirectory:
    """The nodes of a run.

    Args:
        nodes: the nodes, in the order of their users' positions.
        ids: Flower's id of each node.
        limits: the claims that each key allows; None without a folder of keys.
        masks: each node's key for masks, 32 bytes, in a run of secure sums; else empty.
    """

    def __init__(
        self, nodes: Sequence[Node], ids: Sequence[int], limits: Limits | None = None, masks: Sequence[bytes] = ()
    ) -> None:
        self.nodes = tuple(nodes)
        self.ids = list(ids)
        self.masks = tuple(masks)
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
        *,
        masks: bool = False,
    ) -> "NodeDirectory":
        """Wait until `wanted` nodes have answered a hello.

        Args:
            messenger: the messenger that reaches the nodes.
            request: the request for data.
            catalogue: digest of the catalogue that every node must have.
            wanted: number of nodes.
            patience: seconds to wait.
            before: nodes of the resumed run, from `described`; None for a new run.
            limits: the claims that each key allows.
            masks: whether each node must show a key for masks.
        Raises:
            TooFewNodes: too few nodes answered in time.
            InputError: the nodes do not fit together, or differ from those of the resumed run.
        """
        found: dict[int, Packet] = {}
        refused: dict[int, str] = {}
        until = messenger.clock() + patience
        while len(found) < wanted and messenger.clock() < until:
            new = messenger.online() - found.keys() - refused.keys()
            found |= _hello(messenger, request, new, until, catalogue, refused, limits, masks)
            if len(found) < wanted:
                messenger.wait()
        if len(found) < wanted:
            why = f" ({len(refused)} refused: {next(iter(refused.values()))})" if refused else ""
            raise TooFewNodes(
                f"{len(found)} of {wanted} nodes were there after {patience:.0f} s{why}; start the others, or lower "
                "engine.nodes"
            )
        order = ("place", "users", exchange.MASKS_KEY)
        ids = sorted(found, key=lambda node: (*(found[node].facts.get(name, "") for name in order), node))[:wanted]
        places = [int(found[node].facts["place"]) for node in ids]
        shards = [place for place in places if place >= 0]
        if len(set(shards)) < len(shards):
            raise InputError("two nodes host the same shard; give each its own partition-id")
        users = [int(found[node].facts["users"]) for node in ids]
        firsts = np.concatenate([[0], np.cumsum(users)]).tolist()
        keys = [bytes.fromhex(str(found[node].facts[exchange.MASKS_KEY])) for node in ids] if masks else []
        if len(set(keys)) < len(keys):
            raise InputError("two nodes have the same key for masks; give each node a key of its own")
        made = cls([Node(*each) for each in zip(places, firsts, users, strict=False)], ids, limits, keys)
        if before is not None and list(before) != made.described():
            raise InputError("the nodes are not those that the run began with; start the same ones, or a new run")
        return made

    @property
    def keys(self) -> Callable[[], Mapping[int, NodePublicKey]] | None:
        """What reads the nodes' public keys, by Flower's id; None without a folder of keys."""
        return None if self._limits is None else node_limits.keys(self._limits)

    def minimum_cohort(self, min_nodes: int | None, sampling: float) -> int:
        """Return how many users are expected in a round in which only the fewest and smallest nodes answer."""
        smallest = sorted(node.users for node in self.nodes)[: min_nodes or len(self.nodes)]
        return math.floor(sum(smallest) * sampling)

    @property
    def users(self) -> int:
        """Number of users of all nodes."""
        return sum(node.users for node in self.nodes)

    def described(self) -> list[dict[str, int]]:
        """Return the JSON-able facts that must be the same for a run to be resumed."""
        return [{"place": node.place, "users": node.users} for node in self.nodes]

    def split(self, cohort: np.ndarray) -> dict[int, np.ndarray]:
        """Return the cohort by index of the node, as positions among the node's own users; empty for an absent one."""
        bounds = np.searchsorted(cohort, [node.first for node in self.nodes] + [self.users])
        return {n: cohort[bounds[n] : bounds[n + 1]] - node.first for n, node in enumerate(self.nodes)}

    def welcome(self, messenger: Messenger, request: DataRequest, catalogue: str, until: float) -> set[int]:
        """Return the indices of the nodes that are online. A known shard under a new id takes its old place."""
        online = messenger.online()
        new, lost = online - set(self.ids), [n for n, known in enumerate(self.ids) if known not in online]
        shards = {self.nodes[n].place: n for n in lost if self.nodes[n].place >= 0}
        new = {node for node in new if self._again.get(node, -math.inf) <= messenger.clock()}
        if new and shards:
            self._again |= dict.fromkeys(
                new, messenger.clock() + 2 * HELLO_SECONDS
            )  # an unknown node is not queried at every poll
            masks = bool(self.masks)
            for node, packet in _hello(messenger, request, new, until, catalogue, {}, self._limits, masks).items():
                n = shards.pop(int(packet.facts["place"]), None)
                same = n is not None and self.nodes[n].users == packet.facts["users"]
                if n is not None and same and (not masks or packet.facts[exchange.MASKS_KEY] == self.masks[n].hex()):
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
    masks: bool = False,
) -> dict[int, Packet]:
    found = {}
    allowed = None if limits is None or not nodes else limits()
    record = wire.to_record(exchange.ask_hello(request, masks=masks))
    until = min(until, messenger.clock() + HELLO_SECONDS)
    for node, packet in messenger.ask(dict.fromkeys(sorted(nodes), record), "query", "hello", until):
        try:
            presence = _checked(packet, catalogue)
            if allowed is not None:
                check_claim(allowed, node, int(presence.facts["users"]), int(presence.facts["place"]))
            if masks:
                _check_masks_key(presence, None if limits is None else node_limits.keys(limits)().get(node))
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


def _check_masks_key(presence: Packet, key: NodePublicKey | None) -> None:
    """Raises: WireError where a node shows no key for masks, or its registered key does not vouch for it."""
    try:
        shown = bytes.fromhex(presence.fact(exchange.MASKS_KEY, str))
        signature = bytes.fromhex(presence.fact(exchange.MASKS_SIGNATURE, str))
    except ValueError:
        shown, signature = b"", b""
    if len(shown) != KEY or (key is not None and not key.verifies(signature, exchange.masks_key_text(shown))):
        raise WireError("key", "a node whose key does not vouch for its key for masks; start it with a key")


def refused_by_node(packet: Packet) -> WireError:
    """Return a node's refusal as an error in our words."""
    code: Any = packet.facts.get("code")
    known = code if isinstance(code, str) and code in exchange.REFUSALS else "request"
    return WireError(f"refused, {known}", exchange.REFUSALS[known])
