"""Admission of nodes to a running SuperLink: those with a public key in the server's folder, and no others.

Source: flwr 1.41's Control API, by its own client. The command `flwr supernode` does the same for one node.
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
    """A node in the link's list.

    Attributes:
        number: Flower's id of the node.
        name: name in the folder of keys.
        status: Flower's word: `registered` (never seen), `online`, `offline`, `unregistered` (removed).
        key: public key of the node; None for a key that no node may have.
    """

    number: int
    name: str
    status: str
    key: NodePublicKey | None

    @property
    def gone(self) -> bool:
        """Whether the node was removed."""
        return self.status == "unregistered"


class Admission:
    """The list of nodes of one link."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @contextlib.contextmanager
    def at(cls, address: str, ca: Path, secret: str = "") -> Iterator["Admission"]:
        """Connect to the list of a link.

        Args:
            address: HOST:PORT of the link.
            ca: certificate that signed the link's.
            secret: secret of the gate before the link.
        Raises: InputError, also from later calls.
        """
        with control(address, ca, secret) as client:
            yield cls(client)

    def nodes(self) -> list[Listed]:
        """Return every node that the link admits, or ever admitted."""
        from flwr.proto.control_pb2 import ListNodesRequest

        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [Listed(node.node_id, node.name, node.status, from_pem(node.public_key)) for node in found]

    def keep(self, keys: Mapping[str, NodePublicKey]) -> list[str]:
        """Admit the nodes of `keys` and no others.

        Other nodes are refused from their next request. Flower takes no key twice, so a removed node returns only with
        a restarted link.

        Args:
            keys: public key of each node, by name.
        Returns: one line for each change.
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
