"""`fedrec bench results`: fills a store of finished runs, one after the other, and writes the page from it.

A run in the store is not run again unless its settings have changed, so the table can be made in several sittings and
on several machines; every run keeps its versions. All runs share one process, so memory is measured elsewhere
(`fedrec bench round`).
"""

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

Runs = dict[str, dict[str, Any]]
"""Finished runs by "section | row | seed"."""


def scenario(section: Section, row: Row, seed: int) -> Scenario:
    """Return the scenario of one row under one seed, with checked settings."""
    values = {
        "name": f"results-{section.name}",
        "seed": seed,
        "data": dict(section.data),
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
    parts = [dict(section.data), row.algorithm["name"], own, row.epsilon, row.delta, seed]
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
        """Whether this run, with its current settings, is finished."""
        found = self.runs.get(key(section, row, seed))
        return found is not None and found["settings"] == settings_hash(section, row, seed)

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
            wanted = scenario(section, rows[0], seed)
            dataset = datasets.load(wanted.data, data_dir, seed)
            split = splits.split(dataset, wanted.data.split, wanted.evaluation.on, seed)
            for row in rows:
                say(f"{section.title}: {row.name}, seed {seed}")
                try:
                    found = run(scenario(section, row, seed), dataset, split)
                    store.add(key(section, row, seed), {"settings": settings_hash(section, row, seed), **found})
                except FedrecError as error:
                    failures.append(f"{key(section, row, seed)}: {error}")
                    say(f"failed: {error}")
    return failures


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
        "metrics": _short(metrics),
        "order_free": _short(order_free),
        "rule": metrics["rule"],
        "chosen": setup.algorithm.chosen,
        "epsilon": describe(setup.plan)["epsilon"],
        "users_per_second": round(sum(row["users"] for row in outcome.history) / seconds) if seconds else None,
        "rounds": outcome.rounds,
        "bytes_up": sum(row["bytes_up"] for row in outcome.history),
        "versions": {name: version(name) for name in ("fedrec", "torch", "numpy", "opacus", "dp-accounting")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, python {platform.python_version()}",
    }


def _short(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    protocols = ("full", "sampled-99")
    return {name: {k: round(v, 5) for k, v in metrics[name].items()} for name in protocols if name in metrics}


def table(section: Section, store: Results) -> str:
    """One Markdown table: what was published, then a row for each algorithm and privacy level that was run."""
    rows = [(row, runs) for row in section.rows if (runs := store.of(section, row))]
    if not rows:
        return "\n\n".join([f"## {section.title}", *([section.note] if section.note else []), "Not run yet."])
    columns = section.columns
    heads = ["", "epsilon", *(name for name, _, _ in columns), f"{columns[0][0]}, order ignored"]
    heads += ["users/s", "rounds", "MB up a user", "seeds"]
    lines = [f"## {section.title}", "", f"Rule: {rows[0][1][0]['rule']}.", ""]
    lines += [section.note, ""] if section.note else []
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for label, figures in section.published:
        cells = ["" if value is None else f"{value:.4f}" for value in figures]
        lines.append("| " + " | ".join([label, "", *cells, "", "", "", "", ""]) + " |")
    for row, runs in rows:
        first = runs[0]
        cells = [_figure(runs, "metrics", column) for column in columns]
        cost = [
            f"{statistics.median(run['users_per_second'] for run in runs):,.0f}" if first["users_per_second"] else "",
            str(first["rounds"]),
            f"{first['bytes_up'] / 1e6:.2f}",
            str(len(runs)),
        ]
        free = _figure(runs, "order_free", columns[0])
        lines.append("| " + " | ".join([f"`{row.label}`", str(row.epsilon), *cells, free, *cost]) + " |")
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
            f"({'; '.join(machines)}; {'; '.join(versions)}). Mean ± standard deviation over the seeds in the last "
            "column; a seed draws the noise, the local negatives and the public starting values. Settings are the "
            "defaults, which follow epsilon and the number of users and were chosen on validation splits (the "
            "newest training items) of MovieLens-1M and MovieLens-100K; that choice is not covered by the "
            "guarantee. Epsilon is for whole users, add or remove one, at delta 1e-5, over all releases of a run. "
            "The metrics are a simulation's true ones.",
            "MovieLens was rated from lists that the site showed, so the order of events says more about the next item "
            "than it does elsewhere: beside each first column stands the figure when devices ignore that order. Users "
            "per second count the users of all rounds; other programs shared the machine, so they are too low and "
            "vary by a factor of two.",
            *tables,
            "",
        ]
    )
