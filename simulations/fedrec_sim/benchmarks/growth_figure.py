"""How cost grows with users, as one picture: seconds of each kind of round, and peak memory of host and device."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fedrec_sim.benchmarks.figure import COLOURS

_MARKERS = "osD^v<>P"
"""A marker for each kind of round of an algorithm, whose colour they share: shape tells them apart without colour."""


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the SVG; the same document draws the same bytes."""
    results = document["results"]
    algorithms = list(dict.fromkeys(result["algorithm"] for result in results))
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for number, algorithm in enumerate(algorithms):
        own = [result for result in results if result["algorithm"] == algorithm]
        colour, users = COLOURS[number % len(COLOURS)], [result["users"] for result in own]
        for place, kind in enumerate(own[0]["kinds"]):
            seconds = [result["kinds"][place]["seconds"] for result in own]
            label = f"{algorithm}: {kind['round'].replace('+', ' and ')}"
            time_axes.plot(users, seconds, color=colour, marker=_MARKERS[place % len(_MARKERS)], label=label)
        for memory, dash in (("peak_rss_mb", "-"), ("peak_device_mb", "--")):
            if own[0][memory] is not None:
                where = "host" if memory == "peak_rss_mb" else "device"
                values = [result[memory] for result in own]
                memory_axes.plot(users, values, dash, color=colour, marker="o", label=f"{algorithm}: {where}")
    for axes, title in ((time_axes, "seconds a round"), (memory_axes, "peak memory, MB")):
        axes.set_xscale("log")
        axes.set_xlabel("users, everybody takes part")
        axes.set_ylabel(title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    time_axes.set_yscale("log")
    memory_axes.set_ylim(bottom=0)
    device = results[0]["device"]
    figure.suptitle(f"{document['interactions_per_user']} events a user, {document['items']:,} items, {device}")
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
