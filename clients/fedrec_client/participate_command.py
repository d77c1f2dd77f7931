"""`fedrec client participate`: take part in a server's runs from this device, when its policy lets it."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedrec.errors import InputError
from fedrec.screen import say
from fedrec.transport.executor import OURS
from fedrec_client.edge_options import AsJson, Folder, Passphrase, opened, show

OWN = ".node"
"""Folder of a hub's own files, among the folders of its devices."""

Place = Annotated[str, typer.Option(metavar="HOST:PORT", help="The server, by a name that is in its certificate.")]
Authority = Annotated[Path, typer.Option(metavar="FILE", help="The server's ca.crt, which alone is trusted.")]
NodeKeyFile = Annotated[Path, typer.Option(metavar="FILE", help="The node's key (fedrec client key FILE).")]
ItemsFile = Annotated[Path, typer.Option(metavar="FILE", help="The run's items, as `fedrec client items` writes them.")]

Catalogue = Annotated[
    Path | None,
    typer.Option("--catalogue", metavar="FILE", help="The server's file of items, for algorithms that need PyTorch."),
]


def items(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="The public items, the server's file.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write them.")],
) -> None:
    """Write the items of a run for devices: their ids and the catalogue's digest, as JSON.

    A second file of the same name, ending in `.features`, has what `kernel-rank` needs of them. A catalogue with
    vectors has none: devices then train kernel-rank with PyTorch and `--catalogue`.

    It reads tables, which `pip install 'fedrec[train]'` brings; devices need the file alone.
    """
    from fedrec.data.datasets import DataConfig, public_catalogue
    from fedrec.ondevice.kernel_items import features_of
    from fedrec.recommend.kernel_items import kernel_items
    from fedrec.recommend.run_items import run_items

    place = features_of(file)
    if place == file:
        raise InputError(f"{file}: the features of the items get this name; name the items' file otherwise")
    public = public_catalogue(DataConfig(name="nodes", catalogue=catalogue), None, 0)[0]
    found, features = run_items(public), kernel_items(public)
    found.write(file)
    if features is None:
        place.unlink(missing_ok=True)
    else:
        features.write(place)
    say(f"{file}: {len(found):,} items")


def participate(
    server: Place,
    ca: Authority,
    key: NodeKeyFile,
    items: ItemsFile,
    seconds: Annotated[float, typer.Option(min=1, help="Deadline.")] = 3600.0,
    catalogue: Catalogue = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="End after this many rounds. [default: stay until the deadline]")
    ] = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Take part while the device is eligible (`[device]` of its policy), until the deadline or Ctrl-C.

    Each round is charged to the device ledger before anything leaves; `fedrec client budget` shows what was spent.
    """
    from fedrec.transport.processes import signals_interrupt
    from fedrec_client.hosting import Server
    from fedrec_client.participation import stay

    place = Server(server, ca.absolute(), key.absolute())
    plan = stay.Plan(seconds=seconds, rounds=rounds)
    with opened(state, passphrase) as client, signals_interrupt():
        note = partial(say, err=True)
        found = stay.participate(client.path, client._store, place, items, plan, catalogue=catalogue, say=note)
    why = f" ({'; '.join(found.obstacles)})" if found.obstacles else ""
    line = f"Ended: {found.ended.value}{why}. Rounds that this device paid for: {found.charged}."
    show({**asdict(found), "ended": found.ended.value}, [line], as_json)


def hub(
    devices: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with a folder for each device.")],
    server: Place,
    ca: Authority,
    key: NodeKeyFile,
    items: ItemsFile,
    catalogue: Catalogue = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", help="The hub's policy. [default: in DIR]")] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to try before giving up a server.")] = 120.0,
) -> None:
    """Run one node for many devices, each with its own store, policy and ledger, until Ctrl-C or SIGTERM.

    This process reads the stores of all devices; the server sees one sum over them, as of any node.
    """
    from fedrec.transport.state import State
    from fedrec_client.consent.files import prepared
    from fedrec_client.hosting import Server, Users, host
    from fedrec_client.node_config import HUB
    from fedrec_client.participation.device_node import folders_of

    place, note = State(devices / OWN), partial(say, err=True)
    config = {
        HUB: str(devices.absolute()),
        "items": str(items.absolute()),
        "state": str(place.path),
        "key": str(key.absolute()),
    }
    config |= {} if catalogue is None else {"catalogue": str(catalogue.absolute())}
    count = len(folders_of(config))
    place.make()
    config |= prepared(place.path, policy, note)
    note(f"{devices}: {count:,} devices")
    made = Users(config, OURS.client)
    host(Server(server, ca.absolute(), key.absolute()), made, place, patience=patience, say=note)
