"""`fedrec client store rotate` and `salvage`: keys and damage of a device's encrypted store."""

from dataclasses import asdict
from typing import Annotated

import typer

from fedrec.screen import say
from fedrec_client.edge_options import AsJson, Folder, Passphrase, folder_of, key_of, show

store_commands = typer.Typer(no_args_is_help=True, help="Keys and damage of the device's encrypted store.")


@store_commands.command()
def rotate(
    to_passphrase: Annotated[
        bool, typer.Option("--to-passphrase", help="Ask for a new passphrase, which opens the store from now on.")
    ] = False,
    state: Folder = None,
    passphrase: Passphrase = False,
) -> None:
    """Make a new master key and seal all anew, so that older copies of the store need the old key.

    A key file is replaced in its place. A kill leaves a store that opens with the old key or with the new one.
    """
    from fedrec_client.edge.layout import DeviceFolder
    from fedrec_client.store import Store

    store = DeviceFolder(folder_of(state).absolute()).store
    with Store.open(store, key_of(passphrase), create=False) as found:
        found.rotate_master_key(key_of(to_passphrase or passphrase, "New passphrase"))
    say(f"{store}: sealed anew under a new master key.")


@store_commands.command()
def salvage(state: Folder = None, passphrase: Passphrase = False, as_json: AsJson = False) -> None:
    """Replace a damaged store by what still opens of it; the damaged file is kept next to it.

    No program may have the store open. A damaged page costs the events on it.
    """
    from fedrec_client.edge.repair import repair

    found = repair(folder_of(state), key_of(passphrase))
    saved = found.saved
    lost = "an unknown number is" if saved.lost is None else f"{saved.lost:,} are"
    show(
        asdict(saved) | {"damaged": str(found.damaged)},
        [
            f"Saved {saved.events:,} events and {saved.states:,} private values; {lost} lost.",
            f"The damaged file is {found.damaged}: delete it once you do not need it, since forget does not reach it.",
        ],
        as_json,
    )
