"""A grid of runs over settings and seeds, as one table and one picture: `fedrec simulate --sweep`.

Each run has a process and a folder of its own, named after its settings. So an interrupted sweep can be resumed, and a
wider grid in the same folder runs only the new settings. All settings are checked before the first run starts.

Where `algorithm.name` is swept, an algorithm keeps no setting of another one. The [algorithm] table of the scenario's
file applies only to the algorithm that it names. A key of `--set` or `--sweep` applies to the algorithms with that
setting. Duplicate runs are run once.
"""

import copy
import csv
import hashlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from fedrec.errors import FedrecError, InputError
from fedrec.run.directory import write_json
from fedrec.run.scenario import Scenario, algorithm_named, checked, read_values
from fedrec.run.scenario_changes import change_values
from fedrec.settings import parse_change, toml_or_text
from fedrec_sim.experiment.child_run import child_scenario
from fedrec_sim.report import plots
from fedrec_sim.report.table import COLUMNS, flat_metrics, head, stamp

NOTE = (
    "Mean ± standard deviation over the seeds. The metrics are a simulation's true ones, which no guarantee covers, "
    "and each epsilon counts its own run alone: to choose settings by this table is to tune on private data, so choose "
    "with evaluation.on=validation and report the test figures of the choice."
)

FIGURE = 12
"""Most characters of a figure, or of the name of an algorithm."""


@dataclass
class Cell:
    """One point of the grid.

    Attributes:
        settings: the swept settings at this point.
        scenarios: the scenario of each seed.
        summaries: the summary of each finished seed.
    """

    settings: dict[str, Any]
    scenarios: dict[int, Scenario]
    summaries: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The settings as a label."""
        return ", ".join(f"{key} {_text(value)}" for key, value in self.settings.items()) or "(no setting changed)"

    def figures(self) -> dict[str, tuple[float, float]]:
        """Return mean and deviation over the finished seeds, also of baselines (`dp-popularity full:..`).

        The deviation of a single run is NaN.
        """
        found: dict[str, list[float]] = {}
        for summary in self.summaries.values():
            results = {"": summary["metrics"]} | {f"{name} ": value for name, value in summary["baselines"].items()}
            for prefix, result in results.items():
                for name, value in flat_metrics(result).items():
                    found.setdefault(prefix + name, []).append(value)
        return {name: spread(values) for name, values in found.items()}


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Parse `key=a,b,c` into the key and its values, each as TOML or as a text. Raises: InputError for other texts."""
    key, equals, values = text.partition("=")
    if not equals or not values.strip() or not all(key.strip().split(".")):
        raise InputError(f"--sweep {text}: must be key=value,value,..., e.g. --sweep privacy.epsilon=0.5,1,3,8")
    if key.strip() == "seed":
        raise InputError(f"--sweep {text}: seeds go into --seeds, e.g. --seeds 0,1,2")
    whole = toml_or_text(f"[{values}]")
    return key.strip(), whole if isinstance(whole, list) else [toml_or_text(value) for value in values.split(",")]


def grid(
    name: str, changes: Sequence[str], overrides: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], seeds: list[int]
) -> list[Cell]:
    """Return every different combination of the axes' values.

    changes, overrides: as in `load_scenario`, for all runs.
    Raises: InputError that names the wrong key or value.
    """
    values = read_values(name)
    fixed = dict(map(parse_change, changes)) | dict(overrides)
    wanted = [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values())]
    if "algorithm.name" in axes:
        _check_known({*fixed, *axes}, axes["algorithm.name"])
    cells: dict[str, Cell] = {}
    for settings in wanted:
        if "algorithm.name" in axes:
            settings = {key: value for key, value in settings.items() if _concerns(key, settings["algorithm.name"])}
        scenarios = {}
        for seed in seeds:
            changed = _values(values, fixed, settings | {"seed": seed}, name)
            scenarios[seed] = checked(changed, name, own_code=True)
        first = json.dumps(scenarios[seeds[0]].resolved(), sort_keys=True)
        cells.setdefault(first, Cell(settings, scenarios))
    return list(cells.values())


def run_name(settings: Mapping[str, Any], seed: int) -> str:
    """Return a folder's name from the settings, with a hash where the name cannot contain them all."""
    whole = "_".join([*(f"{key.split('.')[-1]}-{_text(value)}" for key, value in settings.items()), f"seed-{seed}"])
    plain = re.sub(r"[^\w.+-]", "-", whole)[:120]
    ends = [key.split(".")[-1] for key in settings]
    if plain == whole and len(set(ends)) == len(ends):
        return plain
    return f"{plain}-{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}"


def run(cells: Sequence[Cell], out: Path, data_dir: Path | None, say: Callable[[str], None]) -> list[str]:
    """Run all unfinished runs, seed by seed. Returns one line for each failed run; a failure stops no other run."""
    failures, number, total = [], 0, sum(len(cell.scenarios) for cell in cells)
    for cell in cells:
        for seed, scenario in cell.scenarios.items():
            number += 1
            say(f"run {number}/{total}: {cell.label}, seed {seed} ...")
            try:
                cell.summaries[seed] = child_scenario(scenario, out / run_name(cell.settings, seed), data_dir)
            except FedrecError as error:
                failures.append(str(error))
                say(f"failed: {error}")
    return failures


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return one JSON-able row for each cell with a finished run: settings, runs, epsilon, means, deviations, cost."""
    found = []
    for cell in cells:
        summaries = list(cell.summaries.values())
        if not summaries:
            continue
        spent = [summary["privacy"]["epsilon"] for summary in summaries]
        row: dict[str, Any] = {**cell.settings, "runs": len(summaries), "seeds": list(cell.summaries)}
        row["leaky_negatives"] = summaries[0]["evaluation"].get("leaky_negatives")
        row["epsilon_spent"] = None if None in spent else max(spent)
        for name, (mean, deviation) in cell.figures().items():
            row[name], row[f"{name} sd"] = mean, None if math.isnan(deviation) else deviation
        row["seconds_per_round"] = statistics.median(summary["cost"]["seconds_per_round"] for summary in summaries)
        row["rounds"] = summaries[0]["cost"]["rounds"]
        row["message_bytes_up"] = summaries[0]["cost"]["message_bytes_up"]
        found.append(row)
    return found


def shown(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the printed table."""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.settings))
    done = [cell for cell in cells if cell.summaries]
    names = {name for cell in done for name in cell.figures()}
    metrics = [m for protocol, own in COLUMNS.items() for kind in own if (m := f"{protocol}:{kind}") in names]
    heads = [*keys, *map(head, metrics), "epsilon\nspent", "seconds\na round", "runs"]
    lines = []
    for cell, row in zip(done, rows(done), strict=True):
        figures, summary = cell.figures(), next(iter(cell.summaries.values()))
        lines.append(
            [_text(cell.settings[key]) if key in cell.settings else "" for key in keys]
            + [mean_and_deviation(*figures[metric]) if metric in figures else "" for metric in metrics]
            + ["none" if row["epsilon_spent"] is None else f"{row['epsilon_spent']:.4g}"]
            + [f"{row['seconds_per_round']:.2f}", f"{row['runs']} of {len(cell.scenarios)}{stamp(summary)}"]
        )
    return heads, lines


def rich_table(heads: Sequence[str], lines: Sequence[Sequence[str]], title: str) -> Table:
    """The table for a terminal."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    cells = [[cell.replace(" ± ", "\n±") for cell in line] for line in lines]
    for place, text in enumerate(heads):
        longest = max((len(part) for line in cells for part in line[place].split("\n")), default=0)
        # Figures are never cut: on a narrow screen, long names are folded.
        table.add_column(text.split(".")[-1], no_wrap=longest <= FIGURE, overflow="fold")
    for line in cells:
        table.add_row(*line)
    return table


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    body = [" ".join(text.split("\n")) for text in heads], ["---"] * len(heads), *lines
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in body) + "\n"


def write(cells: Sequence[Cell], out: Path, title: str, metric: str = "full:ndcg@10") -> None:
    """Write `sweep.csv`, `sweep.json`, `sweep.md` and `sweep.svg` of the finished runs into `out`."""
    flat = rows(cells)
    write_json(out / "sweep.json", flat)
    with (out / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in flat for key in row)))
        writer.writeheader()
        writer.writerows(row | {"seeds": " ".join(map(str, row["seeds"]))} for row in flat)
    page = [f"# {title}", markdown(*shown(cells)).rstrip(), NOTE, ""]
    (out / "sweep.md").write_text("\n\n".join(page), encoding="utf-8")
    plots.quality_against_epsilon(_series(cells, metric), head(metric).replace("\n", ", "), out / "sweep.svg")


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the deviation of a single value is NaN."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def mean_and_deviation(mean: float, deviation: float) -> str:
    """Format as `0.1234 ± 0.0012`, without a missing deviation."""
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def _series(cells: Sequence[Cell], metric: str) -> dict[str, list[tuple[float | None, float, float]]]:
    """Return one series for each setting of the axes other than epsilon, and DP popularity as the floor.

    The floor is one line where it is the same for all settings, else one line for each.
    """
    found: dict[str, list[tuple[float | None, float, float]]] = {}
    floors: dict[str, dict[float, tuple[float, float]]] = {}
    for cell in cells:
        if metric not in (figures := cell.figures()):
            continue
        rest = {key: value for key, value in cell.settings.items() if key != "privacy.epsilon"}
        target = next(iter(cell.scenarios.values())).privacy.epsilon
        epsilon = None if target == "none" else target
        summary = next(iter(cell.summaries.values()))
        label = (", ".join(_label(key, value) for key, value in rest.items()) or summary["algorithm"]) + stamp(summary)
        mean, deviation = figures[metric]
        found.setdefault(label, []).append((epsilon, mean, 0.0 if math.isnan(deviation) else deviation))
        if epsilon is not None and f"dp-popularity {metric}" in figures:
            mean, deviation = figures[f"dp-popularity {metric}"]
            floors.setdefault(label, {})[epsilon] = (mean, 0.0 if math.isnan(deviation) else deviation)
    merged: dict[float, tuple[float, float]] = {}
    points = (point for floor in floors.values() for point in floor.items())
    if all(merged.setdefault(epsilon, point) == point for epsilon, point in points) and merged:
        floors = {"": merged}
    named = {f"DP popularity{', ' * bool(label)}{label}": floor for label, floor in floors.items()}
    return found | {name: [(epsilon, *point) for epsilon, point in floor.items()] for name, floor in named.items()}


def _label(key: str, value: Any) -> str:
    """Label a setting for a legend: a text alone, a number with its key."""
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]} {_text(value)}"


def _values(
    base: Mapping[str, Any], fixed: Mapping[str, Any], settings: Mapping[str, Any], scenario: str
) -> dict[str, Any]:
    values = copy.deepcopy(dict(base))
    if (name := settings.get("algorithm.name")) is not None:
        if name != values.get("algorithm", {}).get("name"):
            values["algorithm"] = {}
        fixed = {key: value for key, value in fixed.items() if _concerns(key, name)}
    change_values(values, [(key, value, key) for key, value in {**fixed, **settings}.items()], scenario)
    return values


def _concerns(key: str, name: str) -> bool:
    """Whether a run of the algorithm `name` has the setting `key`."""
    section, _, own = key.partition(".")
    if section != "algorithm" or own == "name":
        return True
    kind = algorithm_named(name).Config
    return own.split(".")[0] in {**kind.model_fields, **kind.older_names}


def _check_known(keys: set[str], names: Sequence[Any]) -> None:
    for key in sorted(keys):
        if not any(_concerns(key, str(name)) for name in names):
            raise InputError(f"'{key}': none of {', '.join(map(str, names))} has this setting; leave it out")


def _text(value: Any) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)  # two values never look alike
    return json.dumps(value) if isinstance(value, bool) else str(value)
