"""The benchmark as one picture: time a user and peak memory, a bar a measurement."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666", "#56B4E9", "#F0E442")
"""Okabe and Ito 2008, which colour-blind people can tell apart; hatches say the same again."""
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the SVG; the same document draws the same bytes.

    Our own bars show their phases, unless times differ so much that the axis is logarithmic, where parts mislead.
    """
    results = document["results"]
    costs = [1e6 * result["seconds"] / result["users"] for result in results]
    logarithmic = max(costs) > 20 * min(costs)
    rows = range(len(results))
    figure = Figure(figsize=(9.0, 1.8 + 0.6 * len(results)), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2, sharey=True)
    plain = [logarithmic or "phases" not in result for result in results]
    widths = [cost if alone else 0.0 for cost, alone in zip(costs, plain, strict=True)]
    time_axes.barh(rows, widths, color="#999999", height=0.6)
    left = [0.0] * len(results)
    phases = [] if all(plain) else list(dict.fromkeys(p for result in results for p in result.get("phases", {})))
    for number, phase in enumerate(phases):
        look = {"color": COLOURS[number % len(COLOURS)], "hatch": _HATCHES[number % len(_HATCHES)]}
        widths = [1e6 * result.get("phases", {}).get(phase, 0.0) / result["users"] for result in results]
        time_axes.barh(rows, widths, left=left, label=phase, height=0.6, **look)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, cost in zip(rows, costs, strict=True):
        time_axes.annotate(f" {cost:,.1f}", (max(cost, left[row]), row), va="center")
    if logarithmic:
        time_axes.set_xscale("log")
        time_axes.set_xlim(min(costs) / 10, max(costs) * 10)
    else:
        time_axes.set_xlim(0, max(costs) * 1.25)
    time_axes.set_yticks(rows, [f"{result['what']}\n{result['users']:,} users" for result in results])
    time_axes.invert_yaxis()
    time_axes.set_xlabel("microseconds a user, one round")
    memory = [result["peak_rss_mb"] or 0.0 for result in results]
    memory_axes.bar_label(memory_axes.barh(rows, memory, color="#56B4E9", height=0.6), fmt="%.0f", padding=4)
    memory_axes.set_xlabel("peak memory, MB")
    memory_axes.margins(x=0.2)
    for axes in (time_axes, memory_axes):
        axes.spines[["top", "right"]].set_visible(False)
    if phases:
        figure.legend(loc="outside lower center", ncols=len(phases), frameon=False, fontsize="small")
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
