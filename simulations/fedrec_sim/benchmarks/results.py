"""`fedrec bench results`: fills a store of finished runs, one after the other, and writes the page from it.

A run in the store is not run again unless its settings have changed, so the table can be made in several sittings and
on several machines; every run keeps its versions. All runs share one process, so memory is measured elsewhere
(`fedrec bench round`).
"""

import dataclasses
import hashlib
import json
import math
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fedrec.data import datasets, splits
from fedrec.data.folder import data_folder
from fedrec.durable import replace
from fedrec.errors import FedrecError, InputError
from fedrec.evaluation.report import evaluate
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.description import describe
from fedrec.run.coordinator import Coordinator
from fedrec.run.scenario import Scenario, checked
from fedrec_sim.benchmarks.grid import Row, Section
from fedrec_sim.engines.setup import SimulationSetup
from fedrec_sim.experiment.sweep import mean_and_deviation, spread

OLDER = "older settings"
"""Mark of a row whose runs had other settings than today's, or another rule; no plot has such a row."""
ORDER_IGNORED = "devices forget the order of events; "
"""Part of a rule that a row may have and its table does not."""
FILES = ("path", "catalogue")
"""Settings of a section's data that are files below the folder of datasets."""
Runs = dict[str, dict[str, Any]]
"""Finished runs by "section | row | seed"."""


def scenario(section: Section, row: Row, seed: int, data_dir: Path | None = None) -> Scenario:
    """Return the scenario of one row under one seed, with checked settings; files are below the folder of datasets."""
    files = {
        name: str((data_folder(data_dir) or Path()) / section.data[name]) for name in FILES if name in section.data
    }
    values = {
        "name": f"results-{section.name}",
        "seed": seed,
        "data": dict(section.data) | dict(row.data) | files,
        "algorithm": dict(row.algorithm),
        "privacy": {"epsilon": row.epsilon, "delta": row.delta},
    }
    return checked(values, f"results, {section.name}: {row.name}")


def key(section: Section, row: Row, seed: int) -> str:
    """Return the run's name in the store."""
    return f"{section.name} | {row.name} | {seed}"


def settings_hash(section: Section, row: Row, seed: int) -> str:
    """Return a hash of the row and the algorithm's defaults. It does not cover the algorithm's code."""
    own = scenario(section, row, seed).algorithm_config.model_dump(mode="json")
    parts = [dict(section.data) | dict(row.data), row.algorithm["name"], own, row.epsilon, row.delta, seed]
    parts += [] if row.metadata else ["no metadata"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Results:
    """The store in the JSON file `path`, replaced atomically after each run.

    Raises: InputError when the file is no store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.runs: Runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise InputError(f"{path}: not a store of results ({error}); move it away or give another --out") from None

    def holds(self, section: Section, row: Row, seed: int) -> bool:
        """Whether this run, with its current settings and by the rule of the table's peers, is finished.

        A rule names the split. Where the peers were run by a newer one, an older run has other test items.
        """
        found = self.runs.get(key(section, row, seed))
        if found is None or found["settings"] != settings_hash(section, row, seed):
            return False
        rules = {run["rule"] for name, run in self.runs.items() if name.startswith(f"{section.name} | central ")}
        return not rules or found["rule"].replace(ORDER_IGNORED, "") in rules

    def add(self, name: str, run: dict[str, Any]) -> None:
        """Add a finished run."""
        self.runs[name] = run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in sorted(self.runs.items()))
        replace(self.path, f"{{\n{lines}\n}}\n".encode())

    def of(self, section: Section, row: Row) -> list[dict[str, Any]]:
        """Return the finished runs of a row with its current settings, by seed."""
        seeds = [seed for seed in range(section.seeds) if self.holds(section, row, seed)]
        return [self.runs[key(section, row, seed)] for seed in seeds]

    def of_row(self, section: Section, row: Row) -> tuple[list[dict[str, Any]], bool]:
        """Return the finished runs of a row, and whether they are of older settings, for want of others."""
        found = self.of(section, row)
        if found:
            return found, False
        older = [self.runs.get(key(section, row, seed)) for seed in range(section.seeds)]
        return [run for run in older if run is not None], True


def fill(
    store: Results,
    sections: Sequence[Section],
    seeds: int | None,
    data_dir: Path | None,
    say: Callable[[str], None],
    algorithms: Sequence[str] = (),
) -> list[str]:
    """Run what the store lacks: the first seed of every row, then the second, and so on. Returns what failed.

    seeds: at most so many a row; None for what each section asks. algorithms: run these alone; empty for all.
    """
    failures = []
    most = max(section.seeds for section in sections)
    for seed in range(most if seeds is None else seeds):
        for section in sections:
            rows = [row for row in section.rows if not algorithms or row.algorithm["name"] in algorithms]
            rows = [row for row in rows if not store.holds(section, row, seed)]
            if seed >= section.seeds or not rows:
                continue
            made: tuple[Any, ...] | None = None
            for row in rows:
                say(f"{section.title}: {row.name}, seed {seed}")
                try:
                    wanted = scenario(section, row, seed, data_dir)
                    if made is None or made[0] != (wanted.data, row.metadata):
                        made = (wanted.data, row.metadata), *_data(wanted, data_dir, metadata=row.metadata)
                    found = run(wanted, *made[1:])
                    store.add(key(section, row, seed), {"settings": settings_hash(section, row, seed), **found})
                except FedrecError as error:
                    failures.append(f"{key(section, row, seed)}: {error}")
                    say(f"failed: {error}")
    return failures


def _data(wanted: Scenario, data_dir: Path | None, *, metadata: bool) -> tuple[datasets.Dataset, splits.Split]:
    """Return a scenario's data and split; without `metadata`, the catalogue has no public features."""
    seed = wanted.seed or 0
    dataset = datasets.load(wanted.data, data_dir, seed)
    if not metadata:
        dataset = dataclasses.replace(dataset, catalogue=dataclasses.replace(dataset.catalogue, blocks=()))
    return dataset, splits.split(dataset, wanted.data.split, wanted.evaluation.on, seed)


def run(wanted: Scenario, dataset: datasets.Dataset, split: splits.Split) -> dict[str, Any]:
    """Train and rank, and return the run's entry in the store."""
    seed = wanted.seed or 0
    setup = SimulationSetup.build(
        wanted.algorithm_class,
        wanted.algorithm_config,
        wanted.privacy,
        wanted.engine,
        dataset,
        split,
        request=DataRequest(data=wanted.data, on=wanted.evaluation.on, seed=seed),
        noise_seed=seed,
    )
    outcome = Coordinator(setup.algorithm, setup.federation, setup.plan).run()
    model = setup.algorithm.release(outcome.shared)
    metrics = evaluate(model, split, seed=seed)
    order_free = evaluate(model, split, seed=seed, order_free=True) if split.device.ordered else metrics
    seconds = sum(row["seconds"] for row in outcome.history)
    return {
        "metrics": short(metrics),
        "order_free": short(order_free),
        "rule": metrics["rule"],
        "chosen": setup.algorithm.chosen,
        "epsilon": describe(setup.plan)["epsilon"],
        "users_per_second": round(sum(row["users"] for row in outcome.history) / seconds) if seconds else None,
        "rounds": outcome.rounds,
        "bytes_up": sum(row["bytes_up"] for row in outcome.history),
        **made_by(),
    }


def made_by() -> dict[str, Any]:
    """Return versions and machine of a run."""
    return {
        "versions": {name: version(name) for name in ("fedrec", "torch", "numpy", "opacus", "dp-accounting")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, python {platform.python_version()}",
    }


def short(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the figures of a run that the store keeps."""
    protocols = ("full", "sampled-99")
    return {name: {k: round(v, 5) for k, v in metrics[name].items()} for name in protocols if name in metrics}


def table(section: Section, store: Results, peers: Sequence[tuple[str, Sequence[dict[str, Any]]]] = ()) -> str:
    """One Markdown table: what was published, central peers, then a row for each algorithm and privacy level.

    peers: name and runs of each.
    """
    rows = [(row, *found) for row in section.rows if (found := store.of_row(section, row))[0]]
    shown = [*(runs for _, runs in peers), *(runs for _, runs, _ in rows)]
    if not shown:
        return "\n\n".join([f"## {section.title}", *([section.note] if section.note else []), "Not run yet."])
    columns = section.columns
    heads = ["", "epsilon", *(name for name, _, _ in columns), f"{columns[0][0]}, order ignored"]
    heads += ["users/s", "rounds", "MB up a user", "seeds"]
    lines = [f"## {section.title}", "", f"Rule: {shown[0][0]['rule']}.", ""]
    lines += [section.note, ""] if section.note else []
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for label, figures in section.published:
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        lines.append("| " + " | ".join([label, "", *cells, "", "", "", "", ""]) + " |")
    for label, runs in peers:
        cells = [_figure(runs, "metrics", column) for column in columns]
        lines.append("| " + " | ".join([f"central {label}", "central", *cells, "", "", "", "", str(len(runs))]) + " |")
    for row, runs, older in rows:
        first = runs[0]
        cells = [_figure(runs, "metrics", column) for column in columns]
        cost = [
            f"{statistics.median(run['users_per_second'] for run in runs):,.0f}" if first["users_per_second"] else "",
            str(first["rounds"]),
            f"{first['bytes_up'] / 1e6:.2f}",
            str(len(runs)),
        ]
        free = _figure(runs, "order_free", columns[0])
        label = f"`{row.label}`, {OLDER}" if older else f"`{row.label}`"
        lines.append("| " + " | ".join([label, str(row.epsilon), *cells, free, *cost]) + " |")
    return "\n".join(lines)


def _figure(runs: Sequence[Mapping[str, Any]], kind: str, column: tuple[str, str, str]) -> str:
    _, protocol, metric = column
    values = [run[kind][protocol][metric] for run in runs]
    return mean_and_deviation(*spread(values))


def series(section: Section, store: Results) -> dict[str, list[tuple[float | None, float, float]]]:
    """Points (epsilon, mean, deviation) by algorithm, of the section's first column."""
    _, protocol, metric = section.columns[0]
    found: dict[str, list[tuple[float | None, float, float]]] = {}
    for row in section.rows:
        values = [run["metrics"][protocol][metric] for run in store.of(section, row)]
        if values:
            epsilon = None if isinstance(row.epsilon, str) else row.epsilon
            mean, deviation = spread(values)
            found.setdefault(row.label, []).append((epsilon, mean, 0.0 if math.isnan(deviation) else deviation))
    return found


def document(tables: Sequence[str], store: Results) -> str:
    """Return the whole page."""
    runs = list(store.runs.values())
    versions = sorted({", ".join(f"{name} {number}" for name, number in run["versions"].items()) for run in runs})
    machines = sorted({run["machine"] for run in runs})
    return "\n\n".join(
        [
            "# Results",
            "Made by `fedrec bench results`, which keeps every finished run in `results.json` beside this page and "
            "runs only what is missing there or has changed settings. CPU "
            f"({'; '.join(machines)}; {'; '.join(versions)}). Rows marked `{OLDER}` were run before a default or the "
            "code changed, and were not run again yet. Mean ± standard deviation over the seeds in the last "
            "column; a seed draws the noise, the local negatives and the public starting values. Settings are the "
            "defaults, which follow epsilon and the number of users and were chosen on validation splits (the "
            "newest training items) of MovieLens-1M and MovieLens-100K; that choice is not covered by the "
            "guarantee. Epsilon is for whole users, add or remove one, at delta 1e-5, over all releases of a run. "
            "Central peers (`--peers`) see every history and promise no privacy; their settings were chosen on "
            "the validation split of each table. The metrics are a simulation's true ones.",
            "MovieLens was rated from lists that the site showed, so the order of events says more about the next item "
            "than it does elsewhere: beside each first column stands the figure when devices ignore that order. Users "
            "per second count the users of all rounds; other programs shared the machine, so they are too low and "
            "vary by a factor of two.",
            *tables,
            "",
        ]
    )
