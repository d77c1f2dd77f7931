"""`fedrec keys`: the certificates of a server and the keys of its nodes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.screen import say

if TYPE_CHECKING:
    from fedrec_server.pki.keyring import Keyring

keys = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the keys.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME_OR_IP", help="A name or address at which nodes reach the server; repeat it."),
]
NodeUsers = Annotated[
    int | None,
    typer.Option("--users", min=1, metavar="N", help="The most users that a node may claim to host. [default: 1]"),
]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, help="How long the server's certificate lasts.")]


@keys.callback()
def _keys() -> None:
    """Make, renew and show the certificates of a server and the keys of its nodes.

    Each node needs `ca.crt`, which is public but must arrive unchanged. It also needs a key of its own, best made on
    the node (`fedrec client key FILE`). `ca.key` and `server.key` stay on the server.
    """


@keys.command()
def init(
    folder: Folder,
    host: Hosts = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="Make a key for a node of that name; repeat it.")
    ] = None,
    users: NodeUsers = None,
    days: Days = 365,
) -> None:
    """Make an authority, a certificate for the server, and keys for nodes, in a new folder."""
    from datetime import UTC, datetime

    from fedrec_server.pki import key_making, node_limits

    keyring = key_making.make(folder, host or [], node or [], datetime.now(UTC), days)
    for name in keyring.nodes if users is not None else ():
        node_limits.put(keyring, name, users)
    _print(keyring)


@keys.command()
def node(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node's name, for the server's lists.")],
    public: Annotated[
        Path | None, typer.Option("--public", metavar="FILE", help="The public key that the node made itself.")
    ] = None,
    users: NodeUsers = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="The only shard that it may claim, and no other node may."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the node: refused within seconds.")] = False,
) -> None:
    """Admit a node, by its own public key or by a key made here; change its limits; or remove it.

    A running server notices within seconds. It refuses claims beyond the limits: a node can move a sum by one clip for
    each of its users.
    """
    from fedrec.errors import InputError
    from fedrec_server.pki import key_making, node_limits
    from fedrec_server.pki.keyring import Keyring

    keyring = Keyring(folder)
    if remove:
        if public is not None or users is not None or shard is not None:
            raise InputError("--remove stands alone; leave --public, --users and --shard out")
        key_making.remove_node(keyring, name)
        say(f"Forgot node '{name}'; a server that runs refuses it within seconds")
        return
    if name not in keyring.nodes or public is not None or (users is None and shard is None):
        key = key_making.add_node(keyring, name, public)
        say(f"Node '{name}' has the key {key.fingerprint}")
        private = keyring.nodes[name][0]
        if private is not None:
            say(f"Move {private} to the node by a safe way, and keep no copy here")
    limit = node_limits.put(keyring, name, users, shard)
    say(f"It may claim {limit.users} users" + (f" and shard {limit.shard}" if limit.shard else ""))


@keys.command()
def renew(
    folder: Folder,
    host: Hosts = None,
    days: Days = 365,
    authority: Annotated[
        bool,
        typer.Option("--authority", help="Add a new authority to the old one; the server's certificate stays."),
    ] = False,
) -> None:
    """Give the server a new key and certificate, good for the hosts of the old one and for `--host`.

    Nodes notice nothing. With `--authority`, hand the new `ca.crt` to every node, then renew without it.
    """
    from datetime import UTC, datetime

    from fedrec.errors import InputError
    from fedrec_server.pki import key_making
    from fedrec_server.pki.keyring import Keyring

    if authority and host:
        raise InputError("--host cannot be used with --authority, which leaves the server's certificate alone")
    keyring = Keyring(folder)
    for path in key_making.renew(keyring, host or [], datetime.now(UTC), days, authority):
        say(f"Wrote {path}")
    if authority:
        say(f"Hand {keyring.ca_certificate} to every node, start them again, then run `fedrec keys renew {folder}`")
    else:
        say("Start the server again; nodes notice nothing")


@keys.command()
def show(folder: Folder) -> None:
    """Show hosts, dates and fingerprints, and what expires soon; exit code 2 where a server cannot start with it."""
    from fedrec_server.pki.keyring import Keyring

    keyring = Keyring(folder)
    _print(keyring)
    for line in keyring.check():
        say(f"warning: {line}")


def _print(keyring: "Keyring") -> None:
    from cryptography.hazmat.primitives import hashes

    from fedrec_server.pki import node_limits
    from fedrec_server.pki.certificates import day, hosts_of

    keyring.check_folder()
    for authority in keyring.authorities():
        digest = authority.fingerprint(hashes.SHA256()).hex(":").upper()
        say(f"authority  until {day(authority)}  SHA-256 {digest}")
    server = keyring.server()
    say(f"server     until {day(server)}  {', '.join(hosts_of(server))}")
    limits = node_limits.read(keyring)
    for name, key in keyring.public_keys().items():
        where = "its private key is here" if keyring.nodes[name][0] else "made by the node"
        limit = limits[name]
        claims = f"at most {limit.users} users" + (f", shard {limit.shard}" if limit.shard else "")
        say(f"node       {name}  {key.fingerprint}  {claims}; {where}")
