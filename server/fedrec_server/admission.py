"""Which nodes a running SuperLink lets in: those whose public keys lie in the server's folder of keys, and no others.

Source: flwr 1.41's Control API, by its own client; its command `flwr supernode` does the same a node at a time.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec.transport.control import control
from fedrec.transport.node_key import NodePublicKey, from_pem


@dataclass(frozen=True)
class Listed:
    """A node as the link knows it.

    status: in Flower's words; `registered` (never seen), `online`, `offline`.
    """

    name: str
    status: str
    key: NodePublicKey | None


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
        return [Listed(node.name, node.status, from_pem(node.public_key)) for node in found]

    def let_in(self, keys: Mapping[str, NodePublicKey]) -> None:
        """Add the nodes of `keys` (name -> public key) to the list, which begins empty with every link."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        for name, key in keys.items():
            self._client.RegisterNode(RegisterNodeRequest(public_key=key.pem, name=name))
