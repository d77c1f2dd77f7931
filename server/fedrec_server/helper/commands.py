"""`fedrec helper`: the second, non-colluding party of secure sums.

Everything heavy is imported inside the functions, so that `--help` answers at once.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say

helper = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The helper's own folder, for its keys and memory.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME_OR_IP", help="A further name at which the server reaches it; repeat it."),
]


@helper.callback()
def _helper() -> None:
    """Keep the masks of secure sums, as a party that does not work with the server.

    In trust model `distributed` each node adds a mask to its sum. With `privacy.aggregator = helper` a helper gets the
    seeds of all masks, and the server the masked sums: neither can read a node alone. The helper gives out one sum of
    masks for each round that is charged in the run's signed ledger, and cosigns the ledger while it only grows.

    **Who runs it matters.** A helper of the server's own operator protects nobody: server and helper together read
    every node's sum, with its own users' noise alone. Run it on another machine, under another operator.

    1. `fedrec helper start FOLDER --listen 0.0.0.0:9443 --host helper.example.org` makes the keys, and serves

    2. Hand `FOLDER/helper.pub` to the server's operator: `fedrec server start --keys KEYS --helper
       https://helper.example.org:9443 --helper-key helper.pub`

    3. Each node's operator pins the key that `fedrec helper show helper.pub` prints, in the policy under
       `server.helpers`; without it a node refuses
    """


@helper.command()
def start(
    folder: Folder,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; 0.0.0.0 for all addresses, port 0 for any.")
    ] = "127.0.0.1:9443",
    host: Hosts = None,
    ledger_key: Annotated[
        list[str] | None,
        typer.Option(
            "--ledger-key",
            metavar="PUB",
            help="Serve runs of this ledger key alone (ed25519:BASE64 or a file); repeat it. "
            "By default every run whose card names this helper.",
        ),
    ] = None,
    min_nodes: Annotated[
        int, typer.Option("--min-nodes", min=2, help="Fewest nodes in a sum that is opened, whatever a run says.")
    ] = 2,
) -> None:
    """Start a helper, and run it until Ctrl-C or SIGTERM. The keys are made on first use.

    What it has opened is on disk before an answer leaves: after a crash, start it with the same folder. Never start it
    from an older copy of the folder, which has forgotten what was opened since; make another helper instead.
    """
    from fedrec_server.helper.process import listen_at, serve

    place, port = listen_at(listen)
    serve(folder, place, port, host or [], ledger_key or [], min_nodes, partial(say, err=True))


@helper.command()
def init(folder: Folder, host: Hosts = None) -> None:
    """Make a helper's keys without starting it, and show their public parts."""
    from fedrec.transport.state import State
    from fedrec_server.helper.keys import PUBLIC, HelperKeys

    state = State(folder)
    with state.claim():
        keys, _ = HelperKeys.made(state.path)
        keys.certify(host or [])
    show(folder / PUBLIC)


@helper.command()
def show(
    public: Annotated[Path, typer.Argument(metavar="FILE", help="A helper's folder, or its public file.")],
) -> None:
    """Show a helper's public parts, and the line that a node's policy needs."""
    from fedrec_server.helper.keys import PUBLIC, read_public

    place = public / PUBLIC if public.is_dir() else public
    found = read_public(place)
    key = found.helper.key.text
    say(f"key    {key}")
    say(f"seeds  {found.seeds}")
    say(f'for a node\'s policy, in the table [server]: helpers = ["{key}"]')
