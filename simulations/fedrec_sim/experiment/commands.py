"""The commands for many runs: `fedrec tune`, `fedrec compare`, `fedrec simulate --sweep`.

Everything heavy is imported inside the functions, so that `--help` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.errors import FedrecError, InputError
from fedrec.run.setting_completion import settings_named
from fedrec.screen import plain_console, say, write


def tune(
    scenario: Annotated[str, typer.Argument(help="A built-in name (fedrec simulate --list) or a TOML file.")],
    space: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=RANGE",
            help="A setting and its range: log:LOW:HIGH, lin:LOW:HIGH, int:LOW:HIGH, logint:LOW:HIGH, or values "
            "a,b,c; may be repeated.",
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Number of trials, with those of earlier calls.")] = 20,
    metric: Annotated[str, typer.Option(help="PROTOCOL:METRIC to maximise, on validation.")] = "full:ndcg@10",
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Seeds that a trial is the mean of.")] = "0",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting for all trials; may be repeated.",
            autocompletion=settings_named,
        ),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; the same command continues it. [default: runs/...-tune]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Search for good settings with Optuna, on validation data only, and write them as a scenario, best.toml.

    SCENARIO is a built-in name (`fedrec simulate --list`) or a TOML file.

    Tuning uses private data, and no run's epsilon covers that use. So best.toml has a mark, and the privacy statement
    of every run with it names the data that its settings were tuned on. Report its test figures.

    Examples:

    - `fedrec tune ml-1m-als --space algorithm.reg=log:0.001:0.1 --space algorithm.dim=16,32,64 --out runs/tuned`

    - `fedrec simulate runs/tuned/best.toml` - the test figures of the best settings
    """
    from fedrec.run.directory import new_path
    from fedrec_sim.experiment import tune as tuning

    tuning.require_optuna()
    overrides = {} if device is None else {"engine.device": device}
    dimensions = [tuning.parse_space(text) for text in space]
    search = tuning.Search.build(
        scenario, changes or [], overrides, dimensions, metric, whole_numbers(seeds, "--seeds")
    )
    folder = out or new_path(f"{Path(scenario).stem}-tune")
    screen = plain_console(stderr=True, soft_wrap=True)
    progress = plain_console(stderr=True, quiet=quiet, soft_wrap=True).print
    try:
        study = tuning.run(search, trials, folder, data_dir, progress)
    except KeyboardInterrupt:
        say(f"Stopped; give the same command with --out {folder} to continue", err=True)
        raise
    best = tuning.write_best(search, study, folder)
    for key, value in study.best_trial.user_attrs["settings"].items():
        say(f"{key} = {value}")
    count = len(tuning.tried(study))
    say(f"{metric} {study.best_value:.4f} on validation, best of {count} trials; written to {best}")
    screen.print(f"WARNING: {tuning.WARNING}")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs; the first is the reference.")],
    metric: Annotated[
        str, typer.Option(help="PROTOCOL:METRIC to show first and to test, e.g. sampled-99:hr@10.")
    ] = "full:ndcg@10",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Also draw the runs beside each other.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Compare finished runs: metrics, privacy, cost, and significance of the differences.

    RUNS are the folders of finished runs with the same data, split and held-out items. Each run is tested against the
    first, over users. The test needs each user's rank (`fedrec simulate --set evaluation.keep_ranks=true`; that file
    is private data).

    Examples:

    - `fedrec compare runs/a runs/b`

    - `fedrec compare runs/sweep/*seed-0 --metric sampled-99:hr@10 --plot runs.svg`
    """
    from fedrec_sim.experiment import compare as comparing
    from fedrec_sim.experiment.sweep import markdown, rich_table
    from fedrec_sim.report import plots

    if plot is not None and plot.suffix != ".svg":
        raise InputError(f"--plot {plot}: pictures are SVG; call it {plot.stem or 'runs'}.svg")
    if plot is not None and not plot.parent.is_dir():
        raise InputError(f"--plot {plot}: there is no folder '{plot.parent}'; make it first, or choose another")
    found = comparing.read_runs(runs)
    metrics = comparing.metric_names(found, metric)
    tests = comparing.significance(found, metric)
    table = comparing.rows(found, metrics, tests)
    if plot is not None:
        plots.metrics_against_baselines({run.label: run.summary["metrics"] for run in found}, plot)
    if as_json:
        json.dump(table, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    elif as_markdown:
        write(markdown(*comparing.shown(table, metrics)))
        if tests:
            write(f"\n{metric}, less that of {found[0].label}:\n\n{markdown(*comparing.tested(table))}")
    else:
        console = plain_console()
        console.print(rich_table(*comparing.shown(table, metrics), found[0].summary["dataset"]["name"]))
        if tests:
            console.print()
            console.print(rich_table(*comparing.tested(table), f"{metric}, less that of {found[0].label}"))
            console.print(comparing.NOTE)
    missing = comparing.without_ranks(found)
    if len(found) > 1 and not comparing.of_users(metric):
        say(f"Not tested: {metric} is no mean over users, so users cannot be paired.", err=True)
    elif missing and len(found) > 1:
        hint = f"Not tested, no ranks kept: {', '.join(missing)}. Run again with --set evaluation.keep_ranks=true."
        say(hint, err=True)


def sweep(
    name: str | None,
    changes: list[str],
    data_dir: Path | None,
    out: Path | None,
    device: str | None,
    axes: list[str],
    seeds: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run `fedrec simulate --sweep`. Raises: FedrecError at the end when some runs failed."""
    from fedrec.run.directory import RunDirectory, make_folder, new_path
    from fedrec_sim.experiment import sweep as sweeping

    name = name or "quickstart"
    parsed: dict[str, list[Any]] = {}
    for key, values in map(sweeping.parse_axis, axes):
        if key in parsed:
            raise InputError(f"--sweep {key}: is given twice; put all values into one")
        parsed[key] = values
    overrides = {} if device is None else {"engine.device": device}
    cells = sweeping.grid(name, changes, overrides, parsed, whole_numbers(seeds or "0,1,2", "--seeds"))
    folder = out or new_path(f"{Path(name).stem}-sweep")
    if RunDirectory(folder).holds_run:
        raise InputError(f"--out {folder}: holds a single run; choose a new folder for the sweep")
    make_folder(folder, private=True)
    screen = plain_console(stderr=True, quiet=quiet, soft_wrap=True)
    try:
        failures = sweeping.run(cells, folder, data_dir, screen.print)
    except KeyboardInterrupt:
        say(f"Stopped; give the same command with --out {folder} to continue", err=True)
        raise
    flat = sweeping.rows(cells)
    if flat:
        title = f"{name}: {', '.join(parsed) or 'repeated'}"
        sweeping.write(cells, folder, title)
        if as_json:
            json.dump(flat, sys.stdout, indent=2, allow_nan=False)
            sys.stdout.write("\n")
        elif not quiet:
            console = plain_console()
            console.print(sweeping.rich_table(*sweeping.shown(cells), title))
            console.print(sweeping.NOTE)
            console.print(f"Written to {folder}: sweep.md, sweep.csv, sweep.json, sweep.svg")
    if failures:
        for line in failures:
            say(f"failed: {line}", err=True)
        total = sum(len(cell.scenarios) for cell in cells)
        raise FedrecError(f"{len(failures)} of {total} runs failed; the same command runs only what is missing")


def whole_numbers(text: str, option: str) -> list[int]:
    """Parse `0,1,2` as numbers without duplicates. Raises: InputError that names the option."""
    try:
        numbers = list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        numbers = [-1]
    if min(numbers) < 0:
        raise InputError(f"{option} {text}: must be whole numbers, e.g. {option} 0,1,2")
    return numbers
