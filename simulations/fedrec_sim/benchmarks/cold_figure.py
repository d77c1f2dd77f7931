"""Cold start as one picture: HR@10 by algorithm and encoder for new items, by known events for new users."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedrec_sim.benchmarks.cold_means import means
from fedrec_sim.benchmarks.figure import COLOURS

_HATCHES = ("", "//", "..", "\\\\", "xx")
_MARKERS = "osD^v<>P"


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the SVG; the same document draws the same bytes."""
    levels = list(dict.fromkeys(result["epsilon"] for result in document["results"]))
    figure = Figure(figsize=(9.0, 3.6 * len(levels)), layout="constrained")
    for axes, level in zip(figure.subplots(len(levels), 1, squeeze=False)[:, 0], levels, strict=True):
        own = [result for result in document["results"] if result["epsilon"] == level]
        (_items if document["what"] == "items" else _users)(axes, own)
        axes.set_title("no privacy" if level == "none" else f"epsilon {level:g}", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize="small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _items(axes: Axes, results: list[dict[str, Any]]) -> None:
    found = means(results, ("algorithm", "encoder"))
    algorithms = list(dict.fromkeys(place[0] for place in found))
    encoders = list(dict.fromkeys(place[1] for place in found))
    width = 0.8 / len(encoders)
    for number, name in enumerate(encoders):
        heights = [found[algorithm, name]["new hr@10"] or 0.0 for algorithm in algorithms]
        places = [row + (number + 0.5) * width - 0.4 for row in range(len(algorithms))]
        colour, hatch = COLOURS[number % len(COLOURS)], _HATCHES[number % len(_HATCHES)]
        axes.bar(places, heights, width, label=f"text: {name}", color=colour, hatch=hatch)
        for place, height in zip(places, heights, strict=True):
            if not height:  # a bar without height is not seen
                axes.annotate("0", (place, 0), ha="center", va="bottom", fontsize="small", color=colour)
    chance = [10 / result["cold_items"] for result in results if result.get("cold_items")]
    if chance:
        axes.axhline(sum(chance) / len(chance), color="black", linestyle=":", label="chance")
    axes.set_xticks(range(len(algorithms)), algorithms)
    axes.set_ylabel("HR@10 among new items")


def _users(axes: Axes, results: list[dict[str, Any]]) -> None:
    found = means(results, ("algorithm", "encoder", "known"))
    lines = list(dict.fromkeys(place[:2] for place in found))
    known = list(dict.fromkeys(place[2] for place in found))
    for number, line in enumerate(lines):
        heights = [found[*line, each]["full hr@10"] or 0.0 for each in known]
        colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
        label = f"{line[0]}, text: {line[1]}"
        axes.plot(known, heights, linestyle="", label=label, color=colour, marker=marker)
    axes.set_ylabel("HR@10 among all items")
