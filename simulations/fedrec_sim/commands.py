"""`fedrec simulate`: the command's options, and its output at the end.

Everything heavy is imported inside the functions, so that `--help` and `--list` answer at once.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.errors import BudgetExhausted, InputError
from fedrec.run.setting_completion import settings_named
from fedrec.screen import plain_console, say

if TYPE_CHECKING:
    from fedrec.run.directory import RunDirectory


def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A built-in name (see --list) or a TOML file; quickstart if left out.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting, e.g. privacy.epsilon=3; may be repeated.",
            autocompletion=settings_named,
        ),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; runs/SCENARIO-TIME if left out.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="in-process, or flower: virtual nodes (engine.nodes) on Flower's Ray runtime."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Everything repeats bit for bit, the noise too (so nothing is private)."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Start at the item vectors of another run's release, instead of the algorithm's own start.",
        ),
    ] = None,
    init_public: Annotated[
        bool,
        typer.Option("--init-public", help="Declare the log of an --init run without privacy public; it is recorded."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print summary.json on standard output, and nothing else there.")
    ] = False,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=VALUE,VALUE,...",
            help="Run every combination of these values, each in a process and a folder of its own below --out, and "
            "write one table and one plot of quality against epsilon; may be repeated. The same command continues "
            "where it stopped.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Run each setting once for each seed. [default: 0,1,2]")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="TRACKER",
            help="Also send every round and the final metrics to tensorboard or mlflow (true metrics, which the "
            "guarantee does not cover): in --out, or where MLFLOW_TRACKING_URI says.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain-privacy", help="Show every parameter of the privacy plan and why, and leave."),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the built-in scenarios and leave.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show neither progress nor table.")] = False,
) -> None:
    """Train a federated recommender on a log of events, under user-level differential privacy.

    SCENARIO is a built-in name (see --list) or a TOML file; quickstart if left out.

    Every user of the log plays one device. What leaves a device is clipped, summed and noised; the budget is charged
    before anything is released. The results are metrics next to baselines, plots, and a privacy statement.

    Examples:

    - `fedrec simulate` - generated data, about a minute

    - `fedrec simulate ml-1m-dp --data-dir DATA --set privacy.epsilon=3` - MovieLens-1M at epsilon 3

    - `fedrec simulate quickstart --set data.path=log.csv` - your own log: user_id,item_id[,rating][,timestamp]

    - `fedrec simulate --resume --out runs/mine` - continue after an interruption

    - `fedrec simulate ml-1m-dp --sweep privacy.epsilon=0.5,1,3,8 --sweep algorithm.name=als,kernel-rank` - both
    algorithms at every epsilon with three seeds each, as one table and one plot

    - `fedrec simulate --json --seed 1 > summary.json` - for scripts; repeats bit for bit

    Exit codes: 0 done, 2 input that cannot be used, 3 privacy budget exhausted (everything up to there is saved).
    """
    if list_:
        _list()
        return
    if engine is not None:
        changes = [*(changes or []), f"engine.name={engine}"]
    if init is not None:
        changes = [*(changes or []), f"start.run={json.dumps(str(init))}"]
    if init_public:
        changes = [*(changes or []), "start.public=true"]
    if resume and out is None:
        raise InputError("--resume: say which run with --out DIR")
    if track is not None:
        from fedrec_sim.report.tracking import check_tracker

        check_tracker(track)
    if explain:
        _explain(scenario, changes or [], data_dir, device)
        return
    if axes or seeds is not None:
        if track is not None:
            raise InputError("--track: follows one run; leave it out of a sweep")
        if seed is not None:
            raise InputError("--seed: is for one run; use --seeds with --sweep")
        from fedrec_sim.experiment.commands import sweep

        sweep(scenario, changes or [], data_dir, out, device, axes or [], seeds, as_json=as_json, quiet=quiet)
        return
    _run(scenario, changes or [], data_dir, out, device, seed, track, resume=resume, as_json=as_json, quiet=quiet)


def _run(
    name: str | None,
    changes: list[str],
    data_dir: Path | None,
    out: Path | None,
    device: str | None,
    seed: int | None,
    track: str | None,
    *,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from fedrec.run.directory import RunDirectory, new_path
    from fedrec.run.scenario import code_in, load_scenario
    from fedrec_sim.report.progress import RunProgress
    from fedrec_sim.simulation import Simulation

    own_code: bool | str = True
    if name is None and resume and out is not None and RunDirectory(out).holds_run:
        name, own_code = str(RunDirectory(out).scenario), code_in(changes)  # a folder may come from somebody else
    options = {"engine.device": device, "seed": seed}
    scenario = load_scenario(
        name or "quickstart",
        changes,
        {key: value for key, value in options.items() if value is not None},
        own_code=own_code,
    )
    folder = RunDirectory(out or new_path(scenario.name))
    screen = plain_console(stderr=True)
    progress = RunProgress(screen, quiet=quiet)
    simulation = Simulation(scenario, folder, data_dir, progress, resume=resume, track=track)
    try:
        summary, exhausted = simulation.run()
    except KeyboardInterrupt:
        if folder.checkpoint.is_file():
            say(f"Stopped; continue with: fedrec simulate --resume --out {folder.path}", err=True)
        raise
    if as_json:
        json.dump(summary, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    elif not quiet:
        _show(summary, folder)
    if exhausted:
        raise BudgetExhausted(f"{exhausted} ({folder.path})")


def _explain(name: str | None, changes: list[str], data_dir: Path | None, device: str | None) -> None:
    from fedrec.privacy.explanation import show
    from fedrec.run.directory import RunDirectory, new_path
    from fedrec.run.scenario import load_scenario
    from fedrec_sim.report.progress import RunProgress
    from fedrec_sim.simulation import Simulation

    options = {} if device is None else {"engine.device": device}
    scenario = load_scenario(name or "quickstart", changes, options, own_code=True)
    progress = RunProgress(plain_console(stderr=True), quiet=True)
    show(Simulation(scenario, RunDirectory(new_path(scenario.name)), data_dir, progress, resume=False).setup.plan)


def _list() -> None:
    import tomllib

    from rich.table import Table

    from fedrec.run.scenario import built_in

    table = Table("scenario", "what it is", box=None, pad_edge=False)
    for name, file in built_in().items():
        table.add_row(name, tomllib.loads(file.read_text(encoding="utf-8")).get("description", ""))
    plain_console().print(table)


def _show(summary: dict[str, Any], folder: "RunDirectory") -> None:
    from fedrec.run.directory import handed_on
    from fedrec_sim.report.table import TRUE_FIGURES, privacy_line, results_table

    console = plain_console()
    console.print(results_table(summary))
    console.print(TRUE_FIGURES)
    console.print(privacy_line(summary), soft_wrap=True)
    if tuned := summary["provenance"]["tuned_on"]:
        console.print(f"Not covered: these settings were tuned on the private data of {tuned}.")
    cost = summary["cost"]
    console.print(
        f"Cost: {cost['rounds']} rounds of {cost['seconds_per_round']:.2f} s, {cost['users_per_second']:,.0f} users/s, "
        f"peak memory {cost['peak_rss_mb']:,.0f} MB; a device sends {_bytes(cost['message_bytes_up'])} and fetches "
        f"{_bytes(cost['message_bytes_down'])} over the whole run.",
        highlight=False,
        soft_wrap=True,
    )
    for line in handed_on(folder):
        console.print(line, highlight=False, soft_wrap=True)


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
