"""The results table of `docs/results.md`: every headline scenario under several seeds, mean and deviation.

Each run is a `fedrec simulate` in a process and a folder of its own, so its peak memory is its own. A table that was
interrupted goes on where it stopped: finished runs are read, begun ones resumed.
"""

import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrec_sim.child_run import child_run


@dataclass(frozen=True)
class Case:
    """One row: a scenario with changed settings."""

    scenario: str
    changes: tuple[str, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """A folder's name that tells the settings."""
        return "-".join([self.scenario, *(change.replace("=", "-").replace(".", "-") for change in self.changes)])


SECTIONS: dict[str, tuple[Case, ...]] = {
    "MovieLens-1M, NCF leave-one-out": (
        Case("ml-1m-als", label="`als`, no privacy"),
        Case("ml-1m", label="`kernel-rank`, no privacy"),
        *(
            Case("ml-1m-dp", (f"privacy.epsilon={epsilon}",), label=f"`kernel-rank`, epsilon {epsilon}")
            for epsilon in ("8", "3", "1", "0.5")
        ),
    ),
    "MovieLens-1M, trained and ranked without any order of events": (
        Case("ml-1m", ("data.ordered=false",), label="`kernel-rank`, no privacy, no order"),
        Case("ml-1m-dp", ("data.ordered=false",), label="`kernel-rank`, epsilon 1, no order"),
    ),
    "MovieLens-100K, ratings of 4 and above, leave-two-out": tuple(
        Case("ml-100k-dp", (f"privacy.epsilon={epsilon}",), label=f"`kernel-rank`, epsilon {epsilon}")
        for epsilon in ("8", "4", "1")
    ),
    "Gowalla, its own split": (Case("gowalla", label="`kernel-rank`, epsilon 8"),),
}
COLUMNS = (
    ("HR@10 of 100", "sampled-99", "hr@10"),
    ("NDCG@10 of 100", "sampled-99", "ndcg@10"),
    ("HR@10 full", "full", "hr@10"),
    ("NDCG@10 full", "full", "ndcg@10"),
    ("R@20 full", "full", "recall@20"),
)


def run_case(case: Case, seed: int, folder: Path, data_dir: Path | None) -> dict[str, Any]:
    """The summary of one run, from its folder if it is finished. Raises: FedrecError naming the folder if it fails."""
    changes = ["evaluation.every=0", *case.changes]
    settings = [part for change in changes for part in ("--set", change)]
    return child_run([case.scenario, "--seed", str(seed), *settings], folder / f"{case.name}-seed-{seed}", data_dir)


def section(title: str, rows: Sequence[tuple[Case, Sequence[Mapping[str, Any]]]]) -> str:
    """One Markdown table: each case, under it the figure without order and DP popularity, mean and deviation."""
    first = rows[0][1][0]
    columns = [column for column in COLUMNS if column[1] in first["metrics"]]
    lines = [f"## {title}", "", f"Rule: {first['metrics']['rule']}", ""]
    lines.append("| | " + " | ".join(name for name, _, _ in columns) + " | seconds a round | peak MB | MB up a user |")
    lines.append("|---|" + "---|" * (len(columns) + 3))
    for case, summaries in rows:
        cost = [summary["cost"] for summary in summaries]
        tail = [
            f"{statistics.median(c['seconds_per_round'] for c in cost):.2f} x {cost[0]['rounds']}",
            f"{max(c['peak_rss_mb'] for c in cost):,.0f}",
            f"{cost[0]['message_bytes_up'] / 1e6:.2f}",
        ]
        lines.append(_row(f"**{case.label}**", [s["metrics"] for s in summaries], columns, tail))
        if all(s["order_free"] and s["order_free"]["full"] != s["metrics"]["full"] for s in summaries):
            lines.append(_row("- the same, device ignores order", [s["order_free"] for s in summaries], columns))
        if "dp-popularity" in summaries[0]["baselines"]:
            baseline = [s["baselines"]["dp-popularity"] for s in summaries]
            lines.append(_row("- DP popularity, same epsilon", baseline, columns))
    popularity = [s["baselines"]["popularity"] for s in rows[0][1]]
    lines.append(_row("popularity, no privacy", popularity, columns))
    return "\n".join(lines)


def _row(
    label: str,
    results: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]],
    tail: Sequence[str] = ("", "", ""),
) -> str:
    cells = []
    for _, protocol, metric in columns:
        values = [result[protocol][metric] for result in results]
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.4f}{deviation}")
    return "| " + " | ".join([label, *cells, *tail]) + " |"


def document(sections: Sequence[str], seeds: Sequence[int], versions: Mapping[str, str]) -> str:
    """The whole page."""
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return "\n\n".join(
        [
            "# Results",
            f"Made by `fedrec bench results --seeds {','.join(map(str, seeds))}` on the CPU ({platform.machine()}, "
            f"{packages}). Mean ± standard deviation over {len(seeds)} seeds; a seed draws the noise, the local "
            "negatives and the public starting values. Everything was tuned on validation splits "
            "(the newest training items), of MovieLens-1M, and for `ml-100k-dp` of MovieLens-100K; that tuning is not "
            "covered by the guarantee. Epsilon is for "
            "whole users, add or remove one, at delta 1e-5, over all releases of a run.",
            "MovieLens was rated from lists that the site showed, so the order of events says more about the next item "
            "than it does elsewhere; the figure that ignores order stands under each headline.",
            *sections,
            "",
        ]
    )
