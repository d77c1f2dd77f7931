"""`fedrec client`: a node that hosts users, one or many, and the lists on the device of one person.

Everything heavy is imported inside the functions, so that `--help` answers at once.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedrec.data.folder import DataDir
from fedrec.devices import check_device
from fedrec.errors import InputError
from fedrec.screen import say
from fedrec.transport.executor import OURS
from fedrec_client.consent_commands import budget, ledger_commands, policy_commands
from fedrec_client.edge_commands import add_to
from fedrec_client.edge_options import DEVICE
from fedrec_client.friends_commands import friends_commands
from fedrec_client.key_command import key
from fedrec_client.serve_command import serve
from fedrec_client.store_commands import store_commands
from fedrec_client.sync_command import sync

client = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")
client.command()(key)
client.add_typer(policy_commands, name="policy")
client.command()(budget)
client.add_typer(ledger_commands, name="ledger")
add_to(client)
client.command(rich_help_panel=DEVICE)(serve)
client.command(rich_help_panel=DEVICE)(sync)
client.add_typer(friends_commands, name="friends", rich_help_panel=DEVICE)
client.add_typer(store_commands, name="store", rich_help_panel=DEVICE)


@client.callback()
def _client() -> None:
    """Take part in runs, and recommend on a device. Histories stay here; clipped sums leave, when a run asks for them.

    - `fedrec client key node.key` makes this node's key; the server gets `node.key.pub`

    - `fedrec client start --server HOST:9092 --ca ca.crt --key node.key --data events.csv --catalogue items.csv`

    - `fedrec client install RUN` makes a released model the one of this device; `record ITEM` and `recommend` use it
    """


@client.command()
def start(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="The server, by a name that is in its certificate.")],
    ca: Annotated[Path, typer.Option(metavar="FILE", help="The server's ca.crt, which alone is trusted.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="This node's private key (fedrec client key FILE).")],
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Host users i of n, in order, of the dataset that a run names.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="NAME", help="With --shard: a built-in dataset to serve; repeat it."),
    ] = None,
    data_dir: DataDir = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Host users of one's own: a log (parquet, CSV, TSV, .inter).")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --data: the public items, the file that the server has.")
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --data: a TOML file with tables columns and catalogue_columns."),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --data: attributes of its users, where the policy allows them."),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, metavar="N", help="With --data: how many users; those of its log if left out."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="NAME",
            help="An installed algorithm or tower of another package that runs may use here; repeat it. "
            "By default a node runs built-in code alone.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What runs may ask and cost (fedrec client policy). [default: policy.toml in the node's own folder]",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where it computes: cpu, cuda or cuda:N.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="This node's own folder. [default: ~/.fedrec/client]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The node's own port on the loopback; any free one if left out.")
    ] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to try before giving up a server.")] = 120.0,
    stock: Annotated[bool, typer.Option("--stock", help="Run tasks as Flower does, a new process for each.")] = False,
    app: Annotated[str, typer.Option(hidden=True)] = OURS.client,
) -> None:
    """Run a node until Ctrl-C or SIGTERM; a lost connection is restored.

    The server must know the key (`fedrec keys node DIR NAME --public FILE.pub` there) and the address must be in its
    certificate. Nothing listens on this machine but a port on the loopback for the node's own two processes.
    """
    from fedrec.plugins import check_plugins
    from fedrec.transport.state import State
    from fedrec_client.consent.files import default_folder, prepared
    from fedrec_client.hosting import Server, Users, host

    if device is not None:
        check_device(device, "--device")
    if columns is not None and data is None:
        raise InputError("--columns goes with --data; a shard is of a built-in dataset, whose columns are known")
    config = _hosted_users(shard, dataset or [], data_dir, data, catalogue, users)
    if people is not None and data is None:
        raise InputError("--people goes with --data; a shard has the attributes of its dataset")
    config |= {"columns": str(columns.absolute())} if columns is not None else {}
    config |= {"people": str(people.absolute())} if people is not None else {}
    config |= {"plugins": ",".join(sorted(check_plugins(plugin)))} if plugin else {}
    config |= {"device": device} if device else {}
    config |= {"stock": True} if stock else {}
    place = State(state or default_folder())
    place.make()
    config |= {"state": str(place.path), "key": str(key.absolute())} | prepared(
        place.path, policy, partial(say, err=True)
    )
    host(
        Server(server, ca.absolute(), key.absolute()),
        Users(config, app, stock),
        place,
        port=port,
        patience=patience,
        say=partial(say, err=True),
    )


def _hosted_users(
    shard: str | None,
    served: list[str],
    data_dir: Path | None,
    data: Path | None,
    catalogue: Path | None,
    users: int | None,
) -> dict[str, str | int]:
    """Return the node's configuration, see `fedrec_client.sources`. Raises: InputError for conflicting options."""
    from fedrec.data.public import check_public

    if (shard is None) == (data is None):
        raise InputError("say whose users this node hosts: --shard I/N of a dataset, or --data FILE of its own")
    if shard is not None:
        if catalogue is not None or users is not None:
            raise InputError("--catalogue and --users go with --data; a shard has the dataset's own items and users")
        place, _, count = shard.partition("/")
        if not (place.isdigit() and count.isdigit() and int(place) < int(count)):
            raise InputError(f"--shard {shard}: say I/N with 0 <= I < N, e.g. 0/4")
        found: dict[str, str | int] = {"partition-id": int(place), "num-partitions": int(count)}
        found |= {"datasets": ",".join(check_public(served))} if served else {}
        return found | ({"data-dir": str(data_dir.absolute())} if data_dir is not None else {})
    if served:
        raise InputError("--dataset goes with --shard; a node with --data serves its own log alone")
    if data is None or not data.exists():
        raise InputError(f"--data {data}: no such file or folder")
    if catalogue is None and not data.is_dir():
        raise InputError(
            "--data without --catalogue: items taken from private events would reveal them; give the run's"
        )
    given = {} if catalogue is None else {"catalogue": str(catalogue.absolute())}
    return {"data": str(data.absolute()), **given} | ({"users": users} if users is not None else {})
