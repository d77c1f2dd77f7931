"""`fedrec server`: a server for nodes, and runs over them.

Everything heavy is imported inside the functions, so that `--help` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.data.folder import DataDir
from fedrec.run.setting_completion import settings_named
from fedrec.screen import plain_console, say
from fedrec.transport.executor import OURS
from fedrec_server.releases.commands import add_to

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedrec.run.scenario import Scenario as ScenarioOfRun
    from fedrec.transport.state import State

server = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")
add_to(server)

DEFAULT_STATE = Path.home() / ".fedrec" / "server"
PORT = 9092
StateFolder = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="The server's own folder: logs, secrets, Flower's files.")
]
Scenario = Annotated[
    str | None, typer.Argument(help="A built-in name (fedrec simulate --list) or a TOML file; quickstart if left out.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, e.g. privacy.epsilon=3; may be repeated.",
        autocompletion=settings_named,
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results; runs/SCENARIO-TIME if left out.")]
Stock = Annotated[
    bool, typer.Option("--stock", help="Run tasks as Flower does: a process for each message, slower, less is closed.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="NAME",
        help="An installed algorithm or tower of another package that runs may use; repeat it. "
        "By default a server runs built-in code alone.",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain-privacy", help="Show every parameter of the privacy plan and why, and leave.")
]
Users = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --explain-privacy: users of all nodes, where data are their own."),
]
HelperAddress = Annotated[
    str | None,
    typer.Option("--helper", metavar="URL", help="Address of the helper that keeps the masks of secure sums."),
]
HelperFile = Annotated[
    Path | None,
    typer.Option("--helper-key", metavar="FILE", help="With --helper: its public file (helper.pub)."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@server.callback()
def _server() -> None:
    """Serve nodes, and run scenarios over them.

    - `fedrec server local` - a whole federation on this machine, to see it work

    - `fedrec keys init KEYS --host server.example.org`, then `fedrec server start --keys KEYS --host 0.0.0.0`

    - `fedrec server run ml-100k-dp --set engine.nodes=4 --out runs/mine` - on the same machine, when nodes are there

    Connections are encrypted and nodes prove who they are; what is not for nodes (starting runs, letting in nodes) is
    open to this machine alone.
    """


@server.command()
def start(
    keys: Annotated[Path, typer.Option("--keys", metavar="DIR", help="The folder that `fedrec keys init` made.")],
    state: StateFolder = DEFAULT_STATE,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 for all. The certificate must name what nodes use.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen at.")] = PORT,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the server is ready; it keeps running.")
    ] = False,
    helper: HelperAddress = None,
    helper_key: HelperFile = None,
    stock: Stock = False,
    plugin: Plugins = None,
    app: Annotated[str, typer.Option(hidden=True)] = OURS.server,
) -> None:
    """Start a server and run it until Ctrl-C or SIGTERM; with --detach, as a daemon.

    With --helper, runs of trust model `distributed` let that second party keep the masks (see `fedrec helper --help`),
    unless their scenario says `privacy.aggregator = "peers"`.
    """
    from fedrec.transport.state import State
    from fedrec_server.helper.named import named
    from fedrec_server.process.link import serve

    folder, second = State(state), named(helper, helper_key)
    if detach:
        from fedrec_server.process.daemon import start_daemon

        facts = start_daemon(folder, keys, host, port, app, stock=stock, plugins=plugin or [], helper=second)
        say(f"ready at {host}:{port}, process {facts['pid']}; `fedrec server stop --state {folder.path}` ends it")
        return
    serve(keys, folder, host, port, app, stock=stock, say=_say, plugins=plugin or [], helper=second)


@server.command()
def run(
    scenario: Scenario = None,
    changes: Changes = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    data_dir: DataDir = None,
    state: StateFolder = DEFAULT_STATE,
    explain: Explain = False,
    users: Users = None,
    quiet: Quiet = False,
) -> None:
    """Run a scenario over the nodes of a running server, and follow it to its end.

    `engine.nodes` is the number of nodes to wait for. Ctrl-C stops the run; --resume continues it from there.

    A scenario that names no trust model runs in `distributed`: the server sees noisy sums alone. It needs three nodes.
    `--set privacy.trust=central` lets the server see sums without noise.

    Exit codes: 0 done, 1 the run or the server died, 2 input that cannot be used, 3 privacy budget exhausted, 5 too few
    nodes, 130 interrupted. Finished rounds are saved in every case.
    """
    from fedrec.errors import InputError
    from fedrec.transport.state import State

    if resume and out is None:
        raise InputError("--resume: say which run with --out DIR")
    if explain:
        _explain(scenario, changes or [], data_dir, users, (State(state).running() or {}).get("plugins", ()))
        return
    _follow(State(state), scenario, changes or [], out, data_dir, resume=resume, quiet=quiet)


@server.command()
def status(
    state: StateFolder = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else.")] = False,
) -> None:
    """Show whether a server runs, its nodes and its runs."""
    from fedrec.transport.state import State
    from fedrec_server.process.status import server_status

    found = server_status(State(state))
    if as_json:
        json.dump(found, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    if not found["running"]:
        say(f"no server runs with {state}")
        return
    say(f"server at {found['address']}, process {found['pid']}")
    for node in found["nodes"]:
        say(f"node  {node['name']}  {node['status']}")
    for name in found["plugins"]:
        say(f"plug-in  {name}")
    for one in found["runs"]:
        say(f"run   {one['id']}  {one['status']}  {one['out']}")


@server.command()
def stop(state: StateFolder = DEFAULT_STATE) -> None:
    """End a server and its processes. An unfinished run over it can be resumed."""
    from fedrec.transport.state import State

    say("stopped" if State(state).stop() else f"no server runs with {state}")


@server.command()
def local(
    scenario: Scenario = None,
    nodes: Annotated[int, typer.Option(min=1, max=64, help="How many nodes, each with a shard of the users.")] = 4,
    changes: Changes = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    data_dir: DataDir = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Keep keys and logs there; else they are removed.")
    ] = None,
    stock: Stock = False,
    plugin: Plugins = None,
    explain: Explain = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario over a whole federation on this machine: a server and nodes as processes of their own.

    Keys, certificates and encrypted connections are those of a real deployment; users are shards of the scenario's
    dataset. Everything that was started ends with the command, also on Ctrl-C.

    - `fedrec server local` - the quickstart over 4 nodes, in trust model `distributed`

    - `fedrec server local ml-100k-dp --nodes 8 --data-dir DATA --out runs/local`
    """
    from fedrec.data.public import check_public
    from fedrec.errors import InputError
    from fedrec.plugins import check_plugins
    from fedrec_server.process.local import federation

    if resume and out is None:
        raise InputError("--resume: say which run with --out DIR")
    say = (lambda _: None) if quiet else _say
    changes = [*(changes or []), f"engine.nodes={nodes}"]
    allowed = check_plugins(plugin or [])
    if explain:
        _explain(scenario, changes, data_dir, None, allowed)
        return
    loaded = _loaded(scenario, changes, out, allowed, resume=resume)[2]
    check_public([loaded.data.name])
    with federation(
        nodes,
        state,
        data_dir,
        stock=stock,
        say=say,
        dataset=loaded.data.name,
        plugins=sorted(allowed),
        helper=loaded.privacy.helped,
    ) as running:
        _follow(running, scenario, changes, out, data_dir, resume=resume, quiet=quiet)


def _follow(
    state: "State",
    scenario: str | None,
    changes: list[str],
    out: Path | None,
    data_dir: Path | None,
    *,
    resume: bool,
    quiet: bool,
) -> None:
    from fedrec.run.directory import RunDirectory, handed_on, new_path
    from fedrec.run.scenario import built_in
    from fedrec.transport.processes import signals_interrupt
    from fedrec_server.default_trust import NOTE
    from fedrec_server.process.progress import EventProgress
    from fedrec_server.process.run_client import RunClient

    allowed = (state.running() or {}).get("plugins", ())
    name, chosen, loaded = _loaded(scenario, changes, out, allowed, resume=resume)
    if chosen != changes and not resume and not quiet:
        say(NOTE, err=True)
    folder = (out or new_path(loaded.name)).absolute()
    if not resume:
        RunDirectory(folder).check_free()
    config = {
        "scenario": name if name in built_in() else str(Path(name).absolute()),
        "set": "\n".join(chosen),
        "out": str(folder),
        "resume": resume,
        "data-dir": "" if data_dir is None else str(data_dir.absolute()),
        "folder": str(Path.cwd()),
    }
    with signals_interrupt(), EventProgress(plain_console(stderr=True), loaded.name, quiet=quiet).showing() as progress:
        client = RunClient(state, config, progress)
        try:
            client.follow()
        except KeyboardInterrupt:
            progress.say(f"stopped; continue with --resume --out {folder}")
            raise
    if not quiet:
        for line in handed_on(RunDirectory(folder)):
            say(line)
        say(f"What it promises: fedrec audit report {folder}")


def _explain(
    scenario: str | None, changes: list[str], data_dir: Path | None, users: int | None, plugins: "Iterable[str]"
) -> None:
    from fedrec.privacy.explanation import show
    from fedrec_server.planned import planned

    show(planned(_loaded(scenario, changes, None, plugins, resume=False)[2], data_dir, users))


def _loaded(
    scenario: str | None, changes: list[str], out: Path | None, plugins: "Iterable[str]", *, resume: bool
) -> tuple[str, list[str], "ScenarioOfRun"]:
    """Return the name, the changes and the scenario of the run. A mistake is reported here, before anything travels.

    The changes have the trust model of the run where neither they nor the scenario name one.

    plugins: names that the server allows; code of others is refused before it is imported.
    """
    from fedrec.run.directory import RunDirectory
    from fedrec.run.scenario import load_scenario
    from fedrec_server.allowed_plugins import allowed_alone
    from fedrec_server.default_trust import with_trust

    if scenario is None and resume and out is not None and RunDirectory(out).holds_run:
        scenario = str(RunDirectory(out).scenario)
    name = scenario or "quickstart"
    with allowed_alone(plugins):
        chosen = with_trust(name, changes, out, resume=resume)
        return name, chosen, load_scenario(name, chosen)


def _say(line: str) -> None:
    say(line, err=True)
