"""`fedrec audit keys`: make, show and replace the keys that sign ledgers."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fedrec.errors import InputError
from fedrec.received_files import refuse_links
from fedrec.screen import say, write

keys = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")


@keys.callback()
def _keys() -> None:
    """Make, show and replace the keys that sign ledgers.

    The private key signs, and stays with the operator of the training, in a file that only its owner can read.
    Give auditors the public part over a channel that nobody else can change.
    """


@keys.command()
def new(
    file: Annotated[
        Path | None, typer.Argument(help="The file to make. [default: $FEDREC_KEY, or ~/.config/fedrec/ledger-key.pem]")
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase (or take it from FEDREC_KEY_PASSPHRASE).")
    ] = False,
) -> None:
    """Make a key; an existing file is never overwritten.

    `fedrec simulate` makes a key on first use if there is none.
    """
    from fedrec.audit.log import keys as store

    path = file or store.default_path()
    secret = None
    if passphrase:
        secret = os.environ.get(store.PASSPHRASE_VARIABLE) or typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    key = store.new_key(path, secret)
    say(f"Made {path}; give auditors its public part:")
    say(key.public.text)


@keys.command()
def show(
    file: Annotated[
        Path | None, typer.Argument(help="A private or public key. [default: the key of this user]")
    ] = None,
    pem: Annotated[bool, typer.Option("--pem", help="Print a PEM file instead of one line.")] = False,
) -> None:
    """Print the public part of a key, to hand to auditors."""
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import keys as store

    path = file or store.default_path()
    if not path.is_file():
        raise InputError(f"{path}: there is no such key; make one with `fedrec audit keys new {path}`")
    private = b"PRIVATE KEY" in received_run.named(path, store.LARGEST)
    public = store.load_key(path).public if private else store.public_key(str(path))
    write(public.pem().decode("ascii") if pem else f"{public.text}\n")


@keys.command()
def rotate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run whose ledger changes hands.")],
    new: Annotated[Path, typer.Option("--new", metavar="FILE", help="The private key that signs from now on.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key so far. [default: the key of this user]")
    ] = None,
) -> None:
    """Hand a run's ledger over to another key, by a record that the old key signs.

    Signed records stay valid, and auditors keep their public key. Resume the run with FEDREC_KEY set to the new file.
    """
    from fedrec.audit.evidence.layout import Layout
    from fedrec.audit.evidence.received_run import LEDGER
    from fedrec.audit.log import keys as store
    from fedrec.audit.log.ledger import Ledger

    refuse_links(run)
    place = Layout.of(run).release / LEDGER
    if not place.is_file():
        raise InputError(f"{run}: holds no {LEDGER}; give the folder of a run")
    before = store.load_key(key) if key else store.default_key()
    after = store.load_key(new)
    if before.public == after.public:
        raise InputError(f"--new {new}: is the key that signs already")
    ledger = Ledger(place, before)
    ledger.rotate(after)
    say(f"{run}: {after.public.text} signs from record {len(ledger.entries)} on")
