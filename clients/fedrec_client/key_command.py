"""`fedrec client key`: the key by which a node proves to the server who it is."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; its public part goes to FILE.pub.")],
    show: Annotated[bool, typer.Option("--show", help="Print the public part of a key that is there.")] = False,
) -> None:
    """Make this node's key. Only FILE.pub leaves the machine: give it to the operator of the server."""
    from fedrec.transport.node_key import new_node_key, public_part

    if show:
        say(public_part(file).line)
        return
    made = new_node_key(file)
    say(f"Made {file}, which stays here; give {file}.pub to the server (`fedrec keys node DIR NAME --public FILE`)")
    say(made.fingerprint)
