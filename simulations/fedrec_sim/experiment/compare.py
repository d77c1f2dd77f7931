"""Comparison of runs: their figures, and tests of the differences over users.

Source: `fedrec.evaluation.significance` for the tests, which need the ranks of every user (`evaluation.keep_ranks`).
Only runs with the same users, events and held-out items are compared.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedrec.errors import InputError
from fedrec.evaluation.kept import load_ranks
from fedrec.evaluation.metrics import AT_K, WHOLE
from fedrec.evaluation.significance import Comparison, compare_ranks
from fedrec.received_files import refuse_links
from fedrec.run.directory import RunDirectory
from fedrec_sim.report.fingerprint import comparable
from fedrec_sim.report.table import COLUMNS, flat_metrics, head, nearest_metric, stamp

NOTE = (
    "Difference to the first run over the same users, with the 95 % interval of the paired bootstrap and two-sided p "
    "of bootstrap and Wilcoxon, not corrected for the number of comparisons. It covers the luck of the users, not that "
    "of the seed: repeat runs under several seeds for that. All figures are true metrics, which no guarantee covers."
)


@dataclass(frozen=True)
class Run:
    """A finished run: label, folder and summary."""

    label: str
    folder: RunDirectory
    summary: Mapping[str, Any]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the runs in these folders. Raises: InputError when one is unfinished, or has other data or another split."""
    names = [path.resolve().name for path in paths]
    labels = names if len(set(names)) == len(names) else list(map(str, paths))
    if len(set(labels)) < len(labels):
        raise InputError("compare: a run is given twice")
    read = [_read(path) for path in paths]
    runs = [Run(label + stamp(summary), place, summary) for label, (place, summary) in zip(labels, read, strict=True)]
    for run in runs[1:]:
        _check_same(runs[0], run)
    return runs


def metric_names(runs: Sequence[Run], metric: str) -> list[str]:
    """Return the columns that all runs have, `metric` first. Raises: InputError that names the nearest metric."""
    shared = set.intersection(*(set(flat_metrics(run.summary["metrics"])) for run in runs))
    if metric not in shared:
        extended = metric.startswith("more:") and not any(name.startswith("more:") for name in shared)
        needs = " It needs runs with --set evaluation.extended=true."
        mend = needs if extended else nearest_metric(metric, sorted(shared))
        raise InputError(f"--metric {metric}: not measured in all of these runs.{mend}")
    usual = [name for protocol, kinds in COLUMNS.items() for kind in kinds if (name := f"{protocol}:{kind}") in shared]
    return [metric, *(name for name in usual if name != metric)]


def significance(runs: Sequence[Run], metric: str, seed: int = 0) -> dict[str, Comparison]:
    """Test each further run against the first, where both have ranks.

    Returns: comparisons by label; empty without ranks of the first run, and for a metric without values of users.
    """
    protocol, _, name = metric.partition(":")
    if not of_users(metric) or not runs[0].folder.ranks.is_file():
        return {}
    first = load_ranks(runs[0].folder.ranks)
    return {
        run.label: compare_ranks(load_ranks(run.folder.ranks), first, name, seed, protocol)
        for run in runs[1:]
        if run.folder.ranks.is_file()
    }


def of_users(metric: str) -> bool:
    """Whether `PROTOCOL:METRIC` is a mean over users, who can be paired. Coverage, for example, is not."""
    protocol, _, name = metric.partition(":")
    return protocol in COLUMNS and name.partition("@")[0] in (*AT_K, *WHOLE)


def without_ranks(runs: Sequence[Run]) -> list[str]:
    """Return the labels of the runs without ranks, which cannot be tested."""
    return [run.label for run in runs if not run.folder.ranks.is_file()]


def rows(runs: Sequence[Run], metrics: Sequence[str], tests: Mapping[str, Comparison]) -> list[dict[str, Any]]:
    """Return one JSON-able row for each run; `significance` is null without a test."""
    return [
        {
            "run": run.label,
            "algorithm": run.summary["algorithm"],
            "seed": run.summary["seed"],
            "epsilon": run.summary["privacy"]["epsilon"],
            **{name: flat_metrics(run.summary["metrics"])[name] for name in metrics},
            "seconds_per_round": run.summary["cost"]["seconds_per_round"],
            "rounds": run.summary["cost"]["rounds"],
            "message_bytes_up": run.summary["cost"]["message_bytes_up"],
            "significance": asdict(tests[run.label]) if run.label in tests else None,
        }
        for run in runs
    ]


def shown(table: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the printed table."""
    heads = ["run", "algorithm", "epsilon", *map(head, metrics), "seconds\na round"]
    lines = []
    for row in table:
        line = [row["run"], row["algorithm"], "none" if row["epsilon"] is None else f"{row['epsilon']:.4g}"]
        lines.append([*line, *(f"{row[name]:.4f}" for name in metrics), f"{row['seconds_per_round']:.2f}"])
    return heads, lines


def tested(table: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of the tests, one line for each tested run. One table for both would be too wide."""
    heads = ["run", "difference", "95 % from", "to", "p bootstrap", "p Wilcoxon"]
    lines = [
        [row["run"], *(f"{found[name]:+.4f}" for name in ("difference", "low", "high"))]
        + [f"{found[name]:.2g}" for name in ("p_bootstrap", "p_wilcoxon")]
        for row in table
        if (found := row["significance"])
    ]
    return heads, lines


def _read(path: Path) -> tuple[RunDirectory, Mapping[str, Any]]:
    folder = RunDirectory(path)
    refuse_links(folder.path)
    if not folder.summary.is_file():
        begun = "continue it: fedrec simulate --resume --out" if folder.holds_run else "give the folder of a run, not"
        raise InputError(f"{path}: holds no finished run; {begun} {path}")
    try:
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
        _ = summary["evaluation"]["fingerprint"], summary["metrics"]["rule"], summary["dataset"]["name"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder.summary}: not a summary of this version of fedrec; run it again") from None
    return folder, summary


def _check_same(first: Run, other: Run) -> None:
    for what, section, key in (
        ("the dataset", "dataset", "name"),
        ("evaluation.on", "evaluation", "on"),
        ("the rule", "metrics", "rule"),
    ):
        a, b = first.summary[section][key], other.summary[section][key]
        if a != b:
            raise InputError(f"{other.label}: {what} is '{b}', and '{a}' in {first.label}; compare runs on one split")
    one, another = (run.summary["evaluation"]["fingerprint"] for run in (first, other))
    if one != another and not comparable(one, another):
        raise InputError(
            f"{other.label}: whether it has the data of {first.label} cannot be checked: their fingerprints come from "
            f"two secrets (by two users, on two machines, or by an older version); run one of them again here"
        )
    if one != another:
        raise InputError(
            f"{other.label}: other users, events or held-out items than {first.label} (cleaning, split, or the seeds "
            f"{other.summary['public_seed']} and {first.summary['public_seed']}, where data or split are drawn); "
            "compare runs on the same data, with the same --seed"
        )
