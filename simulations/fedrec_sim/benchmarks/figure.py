"""The benchmark as one picture: seconds by phase and peak memory, a bar a measurement."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

PHASE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666", "#56B4E9", "#F0E442")
"""Okabe and Ito 2008, which colour-blind people can tell apart; hatches say the same again."""
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the SVG; the same document draws the same bytes."""
    results = document["results"]
    labels = [f"{result['what']}\n{result['users']:,} users" for result in results]
    figure = Figure(figsize=(9.0, 1.6 + 0.6 * len(results)), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2, sharey=True)
    rows = range(len(results))
    phases = list(dict.fromkeys(phase for result in results for phase in result.get("phases", {})))
    left = [0.0] * len(results)
    for number, phase in enumerate(phases):
        widths = [1e6 * result.get("phases", {}).get(phase, 0.0) / result["users"] for result in results]
        time_axes.barh(
            rows,
            widths,
            left=left,
            label=phase,
            color=PHASE_COLOURS[number % 8],
            hatch=_HATCHES[number % 8],
            height=0.6,
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    whole = [0.0 if "phases" in result else 1e6 * result["seconds"] / result["users"] for result in results]
    time_axes.barh(rows, whole, color="#BBBBBB", height=0.6)
    for row, result in zip(rows, results, strict=True):
        cost = 1e6 * result["seconds"] / result["users"]
        time_axes.annotate(f" {cost:,.1f}", (max(cost, left[row]), row), va="center")
    if any(result["what"] == "flower" for result in results):
        time_axes.set_xscale("log")
    time_axes.set_yticks(rows, labels)
    time_axes.invert_yaxis()
    time_axes.set_xlabel("microseconds a user, one round")
    time_axes.margins(x=0.2)
    if phases:
        time_axes.legend(frameon=False, fontsize="small", loc="lower right")
    memory = [result["peak_rss_mb"] or 0.0 for result in results]
    bars = memory_axes.barh(rows, memory, color="#56B4E9", height=0.6)
    memory_axes.bar_label(bars, fmt="%.0f", padding=4)
    memory_axes.set_xlabel("peak memory, MB")
    memory_axes.margins(x=0.15)
    for axes in (time_axes, memory_axes):
        axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
