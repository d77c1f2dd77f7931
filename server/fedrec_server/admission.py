"""Which nodes a running SuperLink lets in: those whose public keys lie in the server's folder of keys, and no others.

Source: flwr 1.41's Control API, by its own client. Its command `flwr supernode` does the same a node at a time, but
does not tell keys, without which nobody can see which of the link's nodes are still wanted.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.transport.control import control
from fedrec.transport.node_key import NodePublicKey, from_pem

_KEY_IN_USE = 23
"""Flower's ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE; it still counts a key as in use when its node was removed."""


@dataclass(frozen=True)
class Listed:
    """A node as the link knows it, by the name under which it was let in first.

    status: in Flower's words; `registered` (never seen), `online`, `offline`.
    """

    id: int
    name: str
    status: str
    key: NodePublicKey | None


@dataclass(frozen=True)
class Followed:
    """Names of the nodes that were let in, of those that were removed, and of those whose key was removed before."""

    new: list[str]
    removed: list[str]
    refused: list[str]


class Admission:
    """The list of nodes of one link."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @contextlib.contextmanager
    def at(cls, address: str, ca: Path, secret: str = "") -> Iterator["Admission"]:
        """That of the link at `address` (HOST:PORT), whose certificate `ca` signed. Raises: InputError, also later.

        secret: what the gate before the link asks for.
        """
        with control(address, ca, secret) as client:
            yield cls(client)

    def nodes(self) -> list[Listed]:
        """Every node that the link lets in."""
        from flwr.proto.control_pb2 import ListNodesRequest

        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Listed(node.node_id, node.name, node.status, from_pem(node.public_key))
            for node in found
            if node.status != "unregistered"
        ]

    def follow(self, wanted: Mapping[str, NodePublicKey]) -> "Followed":
        """Let in the nodes of `wanted` (name -> public key) and no others; one that stays keeps its id.

        A node that is removed while it is connected ends within seconds. Flower never takes the key of a removed node
        again: it needs a new one.
        """
        import httpx
        from flwr.proto.control_pb2 import RegisterNodeRequest, UnregisterNodeRequest

        keys, followed = set(wanted.values()), Followed([], [], [])
        listed = self.nodes()
        for node in listed:
            if node.key not in keys:
                self._client.UnregisterNode(UnregisterNodeRequest(node_id=node.id))
                followed.removed.append(node.name or str(node.id))
        known = {node.key for node in listed}
        for name, key in wanted.items():
            if key in known:
                continue
            try:
                self._client.RegisterNode(RegisterNodeRequest(public_key=key.pem, name=name))
                followed.new.append(name)
            except httpx.HTTPStatusError as error:
                if _code(error.response) != _KEY_IN_USE:
                    raise
                followed.refused.append(name)
        return followed


def _code(response: Any) -> int | None:
    with contextlib.suppress(ValueError, AttributeError):
        return response.json().get("code")
    return None
