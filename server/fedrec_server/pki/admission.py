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

    status: in Flower's words; `registered` (never seen), `online`, `offline`, `unregistered` (sent away).
    """

    number: int
    name: str
    status: str
    key: NodePublicKey | None

    @property
    def gone(self) -> bool:
        """Whether it was sent away."""
        return self.status == "unregistered"


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
        """Every node that the link lets in, or ever let in."""
        from flwr.proto.control_pb2 import ListNodesRequest

        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [Listed(node.node_id, node.name, node.status, from_pem(node.public_key)) for node in found]

    def keep(self, keys: Mapping[str, NodePublicKey]) -> list[str]:
        """Let in the nodes of `keys` (name -> public key) and no others; returns what changed, a line each.

        Another node is refused from its next request on. Flower takes no key twice, so one that was sent away comes
        back only with another link.
        """
        from flwr.proto.control_pb2 import RegisterNodeRequest, UnregisterNodeRequest

        wanted, known, lines = set(keys.values()), {node.key: node for node in self.nodes()}, []
        for key, node in known.items():
            if key not in wanted and not node.gone:
                self._client.UnregisterNode(UnregisterNodeRequest(node_id=node.number))
                lines.append(f"node '{node.name}' was sent away")
        for name, key in keys.items():
            if key not in known:
                self._client.RegisterNode(RegisterNodeRequest(public_key=key.pem, name=name))
                lines.append(f"node '{name}' may come")
            elif known[key].gone:
                lines.append(f"node '{name}': its key was sent away before; start the server again to let it in")
        return lines
