"""`fedrec client friends`: shares with friends' devices, as files that any carrier may see."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say
from fedrec_client.edge_options import AsJson, Folder, Passphrase, opened, show

friends_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Help from friends: a noisy share of each one's taste, paid from the device's own budget.

    1. `address` prints this device's address; each friend does `add NAME ADDRESS` with the other's.

    2. `share NAME FILE --epsilon 4` writes a share for a friend; send the file by any means.

    3. The friend does `take FILE`, and then `fedrec client recommend --friends 1`.

    A friend sees one noisy vector and never an event. All friends get the same one, so a second friend costs nothing.
    """,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The friend's name on this device.")]


@friends_commands.command()
def address(state: Folder = None, passphrase: Passphrase = False) -> None:
    """Print this device's address for friends: public keys, which say nothing about the person.

    Give it over a channel where nobody can change it. With another address in its place, a stranger is the friend.
    """
    with opened(state, passphrase) as client:
        say(client.friends.address)


@friends_commands.command()
def add(
    name: Name,
    of: Annotated[str, typer.Argument(metavar="ADDRESS", help="What the friend's `address` printed.")],
    state: Folder = None,
    passphrase: Passphrase = False,
) -> None:
    """Add a friend, whose shares this device takes and for whom it may write its own."""
    with opened(state, passphrase) as client:
        client.friends.add(name, of)
    say(f"Added {name}. `fedrec client friends share {name} FILE --epsilon E` writes a share for this friend.")


@friends_commands.command()
def remove(name: Name, state: Folder = None, passphrase: Passphrase = False) -> None:
    """Remove a friend and the share that the friend sent. What the friend has of this device stays there."""
    with opened(state, passphrase) as client:
        client.friends.remove(name)
    say(f"Removed {name}, with the share that was here.")


@friends_commands.command(name="list")
def list_(state: Folder = None, passphrase: Passphrase = False, as_json: AsJson = False) -> None:
    """Print the friends, and of which model and at which epsilon their shares are."""
    with opened(state, passphrase) as client:
        found = client.friends.known()
    lines = [
        f"{each.name:<24} "
        + (
            "no share"
            if each.epsilon is None
            else f"epsilon {each.epsilon:g}, {'this' if each.fits else 'another'} model"
        )
        for each in found
    ]
    show(found, lines or ["No friends. `fedrec client friends add NAME ADDRESS` adds one."], as_json)


@friends_commands.command()
def share(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, sealed for the friend.")],
    epsilon: Annotated[
        float | None, typer.Option(help="What a new share costs; left out, the friend gets the one that others have.")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Pay for another share, of the events as they are now; costs add up.")
    ] = False,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Write this device's share for a friend. It is charged to the device ledger before it exists.

    Exit code 3, and no file, where the policy's limits do not cover it: shares and runs have one budget. A share at
    epsilon 1 is nearly all noise and no help; at 8 it helps new users whose friends are much like them.
    """
    with opened(state, passphrase) as client:
        found = client.friends.share(name, file, epsilon, anew=anew)
    how = "charged now" if found.paid else "the one that other friends have, at no further price"
    show(found, [f"Wrote {file} for {name}: epsilon {found.epsilon:g}, {how}."], as_json)


@friends_commands.command()
def take(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A share that a friend sent.")],
    state: Folder = None,
    passphrase: Passphrase = False,
) -> None:
    """Check a friend's share and keep it: sender, signature, model, age, length. Lists use it where asked to."""
    with opened(state, passphrase) as client:
        name = client.friends.take(file)
    say(f"Took a share of {name}. `fedrec client recommend --friends 1` uses it.")
