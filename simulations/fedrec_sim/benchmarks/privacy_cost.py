"""What privacy costs: quality relative to the best central peer against epsilon, one panel a dataset, and its page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedrec_sim.benchmarks import peer_runs
from fedrec_sim.benchmarks.grid import NO_METADATA, NO_ORDER, Row, Section
from fedrec_sim.benchmarks.results import OLDER, Results
from fedrec_sim.experiment.sweep import spread
from fedrec_sim.report.plots import BLUE, GREEN, GREY, ORANGE, VERMILION

METRIC = "ndcg@10"
HEADLINE = "kernel-rank"
LINES = (
    (HEADLINE, BLUE, "o", "-"),
    (NO_ORDER, ORANGE, "s", "--"),
    (NO_METADATA, GREEN, "^", "-."),
    ("popularity", GREY, "D", ":"),
)
"""Label of a row, colour, marker and style of its line."""
_MARK = {False: "", True: f", {OLDER}"}
_ACROSS = 3
"""Panels in a row."""


@dataclass(frozen=True)
class Point:
    """Mean and deviation over seeds of NDCG@10, and mean of HR@10, both of full ranking; epsilon None: no privacy."""

    epsilon: float | None
    ndcg: float
    deviation: float
    hit_rate: float
    seeds: int
    older: bool = False
    """Whether the runs had other settings than today's."""


@dataclass(frozen=True)
class Panel:
    """The figures of one dataset.

    Attributes:
        section: the table that they come from.
        peers: each central peer's point, by name.
        lines: points by the label of a row, those without privacy last.
    """

    section: Section
    peers: Mapping[str, Point]
    lines: Mapping[str, Sequence[Point]]

    @property
    def best(self) -> str:
        """The name of the best central peer."""
        return max(self.peers, key=lambda name: self.peers[name].ndcg)


def panels(sections: Sequence[Section], store: Results) -> list[Panel]:
    """Return a panel for each section with central peers."""
    found = []
    for section in sections:
        peers = {peer.name: _point(None, runs) for peer, runs in peer_runs.of(section, store)}
        lines = {label: _line(section, store, label) for label, *_ in LINES}
        if peers:
            found.append(Panel(section, peers, {label: points for label, points in lines.items() if points}))
    return found


def _line(section: Section, store: Results, label: str) -> list[Point]:
    rows: list[Row] = [row for row in section.rows if row.label == label and row.delta == 1e-5]
    points = [
        _point(None if isinstance(row.epsilon, str) else row.epsilon, *found)
        for row in rows
        if (found := store.of_row(section, row))[0]
    ]
    return sorted(points, key=lambda point: math.inf if point.epsilon is None else point.epsilon)


def _point(epsilon: float | None, runs: Sequence[Mapping[str, Any]], older: bool = False) -> Point:
    mean, deviation = spread([run["metrics"]["full"][METRIC] for run in runs])
    hits, _ = spread([run["metrics"]["full"]["hr@10"] for run in runs])
    return Point(epsilon, mean, 0.0 if math.isnan(deviation) else deviation, hits, len(runs), older)


def draw(found: Sequence[Panel], path: Path) -> None:
    """Write the picture of the panels with the flagship as SVG; the same figures draw the same bytes."""
    found = [panel for panel in found if HEADLINE in panel.lines] or found
    rows = math.ceil(len(found) / _ACROSS)
    figure = Figure(figsize=(3.1 * min(_ACROSS, len(found)), 2.7 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, min(_ACROSS, len(found)), squeeze=False).ravel()
    for panel, one in zip(found, axes, strict=False):
        _panel(panel, one)
    for one in axes[len(found) :]:
        one.set_visible(False)
    named = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.supylabel("NDCG@10 as a share of the best central peer", fontsize=9)
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _panel(panel: Panel, axes: Axes) -> None:
    whole = panel.peers[panel.best].ndcg
    known = sorted({point.epsilon for line in panel.lines.values() for point in line if point.epsilon is not None})
    last = math.log(known[-1]) + 0.9 if known else 0.0  # where "none" is, apart from the scale
    for label, colour, marker, style in LINES:
        points = panel.lines.get(label, [])
        if not points:
            continue
        places = [last if point.epsilon is None else math.log(point.epsilon) for point in points]
        shares = [point.ndcg / whole for point in points]
        bars = [point.deviation / whole for point in points]
        axes.errorbar(
            places, shares, bars, color=colour, marker=marker, markersize=4, capsize=2, linestyle=style, label=label
        )
    axes.axhline(1, color=VERMILION, linewidth=1, label="best central peer, no privacy")
    axes.set_title(f"{panel.section.name}\n(1 = {panel.best}, {whole:.3f})", fontsize=9)
    axes.set_xticks([*map(math.log, known), last], [*(f"{epsilon:g}" for epsilon in known), "none"], fontsize=8)
    axes.set_xlabel("epsilon (user level)", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.update_datalim([(last, 0), (last, 1.08)])
    axes.autoscale_view()
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def page(found: Sequence[Panel], picture: str) -> str:
    """Return the Markdown page with the picture and, for each dataset, the figures of it and the chosen peers."""
    parts = [
        "# What privacy costs",
        "Made by `fedrec bench results --peers` and `fedrec bench results`, from the store of [results](results.md), "
        "where the rules, versions and all other algorithms are. NDCG@10 and HR@10 of full ranking, test items. The "
        "central peers EASE, iALS and item-kNN see every history and promise no privacy. Their settings were chosen on "
        "the validation split (NDCG@10 of 500 users), as were our defaults. 1 in the picture is the best of them on "
        "that dataset.",
        "The flagship is also trained and ranked without the order of events (`no order`), and without the public "
        "features of items (`no metadata`). Of the peers, item-kNN with recency alone uses the order.",
        f"Rows marked `{OLDER}` were run before a default or the code changed, not again yet; the picture has them.",
        f"![NDCG@10 as a share of the best central peer, against epsilon, one panel a dataset]({picture})",
    ]
    for panel in found:
        note = "" if panel.section.published else panel.section.note
        missing = "" if HEADLINE in panel.lines else f"`{HEADLINE}` was not run yet."
        parts += [f"## {panel.section.title}", *filter(None, (note, missing)), _table(panel)]
    return "\n\n".join(parts) + "\n"


def _table(panel: Panel) -> str:
    whole = panel.peers[panel.best].ndcg
    lines = ["| | epsilon | HR@10 full | NDCG@10 full | share of the best peer | seeds |", "|---|---|---|---|---|---|"]

    def row(label: str, epsilon: str, point: Point) -> str:
        deviation = f" ± {point.deviation:.4f}" if point.seeds > 1 else ""
        figures = f"{point.hit_rate:.4f} | {point.ndcg:.4f}{deviation} | {100 * point.ndcg / whole:.0f} %"
        return f"| {label} | {epsilon} | {figures} | {point.seeds} |"

    lines += [row(f"central {name}", "central", point) for name, point in panel.peers.items()]
    for label, points in panel.lines.items():
        lines += [
            row(f"`{label}`{_MARK[point.older]}", "none" if point.epsilon is None else f"{point.epsilon:g}", point)
            for point in points
        ]
    return "\n".join(lines)
