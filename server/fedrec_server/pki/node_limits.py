"""Limits of each node's key: the number of users that the node may claim, and the shard of a dataset.

A node that hosts n users can move a sum by n clips, and its claimed number of users becomes part of the public
population. So the number is bound to the key when the node is admitted (`fedrec keys node DIR NAME --users N`). The
file `nodes.toml`, in the folder of keys, stores it. A key without an entry is a device's and allows one user. A running
server writes the limits, by Flower's ids of the nodes, into its state folder, where a run reads them.
"""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import Field

from fedrec.durable import replace
from fedrec.errors import InputError
from fedrec.settings import Settings, parse
from fedrec.transport.node_key import NodePublicKey
from fedrec_server.pki.admission import Listed
from fedrec_server.pki.keyring import Keyring

VARIABLE = "FEDREC_NODE_LIMITS"
"""The environment variable that names the file for a run: `Limits` as JSON."""


class Limit(Settings):
    """The limits of one node's key."""

    users: int = Field(default=1, ge=1)
    """The most users that the node may claim."""
    shard: str | None = Field(default=None, pattern=r"^\d{1,6}/\d{1,6}$")
    """The only shard that the node may claim, as I/N, exclusively; left out, any shard that no other key has."""

    @property
    def place(self) -> int | None:
        """The I of the shard I/N."""
        return None if self.shard is None else int(self.shard.partition("/")[0])


class NodeLimit(Limit):
    """The limits of the node `name`."""

    name: str
    """As in the folder of keys."""
    key: str
    """The node's public key, as one line."""


Limits = Callable[[], Mapping[int, NodeLimit]]
"""Return the current limits, by Flower's id of each admitted node."""


def read(keyring: Keyring) -> dict[str, Limit]:
    """Return the limit of every node of the keyring, by name. Raises: InputError for an unusable file."""
    try:
        limits = tomllib.loads(keyring.limits.read_text(encoding="utf-8"))
    except FileNotFoundError:
        limits = {}
    except (OSError, ValueError) as error:
        raise InputError(f"{keyring.limits}: not a TOML file ({error}); fix it or restore the one before") from None
    found = {}
    for name in keyring.nodes:
        values = limits.get(name, {})
        if not isinstance(values, dict):
            raise InputError(f"{keyring.limits}: '{name}' is no table; write it as `fedrec keys node` does")
        found[name] = parse(Limit, values, f"{keyring.limits}, {name}")
    return found


def put(keyring: Keyring, name: str, users: int | None = None, shard: str | None = None) -> Limit:
    """Set the limits of the node `name`.

    Args:
        keyring: the folder of keys.
        name: the node's name.
        users: the most users; None keeps the number.
        shard: the shard, as I/N; None keeps the shard.
    Raises: InputError for an unknown node, or a shard that cannot be.
    """
    limits = read(keyring)
    if name not in limits:
        raise InputError(f"{keyring.path}: no node '{name}'; known: {', '.join(limits) or 'none'}")
    changes = {key: value for key, value in (("users", users), ("shard", shard)) if value is not None}
    limit = parse(Limit, limits[name].model_dump() | changes, f"node '{name}'")
    if limit.shard is not None and not int(limit.shard.partition("/")[0]) < int(limit.shard.partition("/")[2]):
        raise InputError(f"--shard {limit.shard}: say I/N with 0 <= I < N, e.g. 0/4")
    for other, known in limits.items():
        if limit.shard is not None and other != name and known.shard == limit.shard:
            raise InputError(f"--shard {limit.shard}: is that of node '{other}' already; each node needs its own")
    _write(keyring, limits | {name: limit})
    return limit


def forget(keyring: Keyring) -> None:
    """Remove the entries of nodes that the keyring lacks."""
    if keyring.limits.exists():
        _write(keyring, read(keyring))


def _write(keyring: Keyring, limits: Mapping[str, Limit]) -> None:
    lines = ["# What each node's key is good for: `fedrec keys node DIR NAME --users N` writes it."]
    for name, limit in sorted(limits.items()):
        lines += [f'["{name}"]', f"users = {limit.users}"]
        lines += [f'shard = "{limit.shard}"'] if limit.shard is not None else []
    replace(keyring.limits, ("\n".join(lines) + "\n").encode(), mode=0o600)


def publish(keyring: Keyring, keys: Mapping[str, NodePublicKey], nodes: Iterable[Listed], file: Path) -> None:
    """Write the limits of the link's nodes, for runs.

    Args:
        keyring: the folder of keys.
        keys: its public keys by name.
        nodes: the nodes in the link's list.
        file: the file to write.
    """
    names, limits = {key: name for name, key in keys.items()}, read(keyring)
    by_number = {
        node.number: {"name": names[node.key], "key": node.key.line, **limits[names[node.key]].model_dump()}
        for node in nodes
        if node.key in names and not node.gone
    }
    replace(file, json.dumps(by_number).encode(), mode=0o600)


def published() -> Limits | None:
    """Return the limits of the running server, read at every call; None where the server is not fedrec's.

    A call raises: InputError when the file cannot be read.
    """
    named = os.environ.get(VARIABLE)
    return (lambda: _published(Path(named))) if named else None


def keys(limits: Limits) -> Callable[[], dict[int, NodePublicKey]]:
    """Return what reads the current public keys, by Flower's id of each admitted node."""
    return lambda: {number: NodePublicKey(limit.key) for number, limit in limits().items()}


def _published(file: Path) -> dict[int, NodeLimit]:
    try:
        limits = json.loads(file.read_bytes())
        return {int(number): parse(NodeLimit, limit, str(file)) for number, limit in limits.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: what nodes may claim cannot be read ({error}); start the server again") from None


def check_claim(limits: Mapping[int, NodeLimit], node: int, users: int, place: int) -> None:
    """Raises: WireError when the node says more than its key is good for, or claims a shard that another key has."""
    from fedrec.wire import WireError  # it needs PyTorch, which commands that only read limits do without

    limit = limits.get(node)
    if limit is None:
        raise WireError("claim", "a node whose key is not in the folder of keys")
    if users > limit.users:
        raise WireError(
            "claim",
            f"node '{limit.name}' says that it hosts {users} users, and its key is good for {limit.users}; if that is "
            f"right: fedrec keys node DIR {limit.name} --users {users}",
        )
    others = {other.name for other in limits.values() if other.place == place} - {limit.name}
    if place != limit.place and (limit.place is not None or (place >= 0 and others)):
        good = "the shards that no other key has" if limit.shard is None else f"shard {limit.shard}"
        raise WireError(
            "claim",
            f"node '{limit.name}' says that it hosts shard {place}, and its key is good for {good}; if that is right: "
            f"fedrec keys node DIR {limit.name} --shard {place}/N",
        )
