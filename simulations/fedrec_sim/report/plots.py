"""Pictures of a run as SVG: what was learned, what it cost in privacy, and how it compares.

Colours: Okabe and Ito 2008, which colour-blind people can tell apart; line styles and labels say the same again.
The files carry no date and no random ids, so the same run draws the same bytes.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
METRIC_NAMES = {"hr@10": "HR@10", "ndcg@10": "NDCG@10"}
RANKED = {"full": "whole catalogue", "sampled-99": "99 sampled items"}
HATCHES = ("", "///", "...", "xxx")
LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""After the colours are used up, the same ones again with the next pattern."""
LONG_LABEL, MANY_LABELS, LINE = 28, 18, 90
"""Letters of a line's name, and lines, above which the names stand below the picture; letters that fit in a row."""


def training_curve(rows: Sequence[Mapping[str, Any]], path: Path, note: str = "") -> bool:
    """Metrics by round, where rounds were measured; `note` stands in the title. False when none was."""
    metrics = sorted({key for row in rows for key in row if key.startswith(("full ", "sampled-99 "))})
    if not metrics:
        return False
    figure, axes = _figure(f"Training: {note}" if note else "Training", "round", "metric on a fixed sample of users")
    for metric, colour, marker in zip(metrics, (BLUE, VERMILION, GREEN, PURPLE), "osD^", strict=False):
        points = [(row["round"] + 1, row[metric]) for row in rows if row.get(metric) is not None]
        protocol, _, kind = metric.partition(" ")
        label = f"{METRIC_NAMES.get(kind, kind)}, {RANKED[protocol]}"
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, color=colour, label=label)
    _from_zero(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)
    return True


def private_looks(private: Mapping[str, Any], path: Path) -> bool:
    """Both private metrics at every look, with one standard deviation of their noise; which model was released, and
    where the run stopped. False where there is at most one look.
    """
    looks = private.get("looks", [])
    if len(looks) < 2:
        return False
    figure, axes = _figure("Private looks", "training rounds", "private metric, with the noise's deviation")
    rounds, stds = [look["after"] for look in looks], [look["std"] for look in looks]
    for (metric, label), colour, marker in zip(METRIC_NAMES.items(), (BLUE, VERMILION), "os", strict=True):
        values = [look[metric] for look in looks]
        axes.errorbar(rounds, values, stds, color=colour, marker=marker, markersize=4, capsize=3, label=label)
    if private["released_after"] is not None:
        axes.axvline(private["released_after"], color=GREEN, linestyle=":", label="released model")
    if private["stopped"]:
        axes.axvline(private["stopped"]["after"], color=GREY, linestyle="--", label="stopped")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    _save(figure, path)
    return True


def epsilon_by_round(
    rows: Sequence[Mapping[str, Any]], target: float, path: Path, paid: Mapping[str, float] | None = None
) -> bool:
    """Epsilon spent after each round by both accountants, against the target. False for a run without rounds.

    paid: by accountant, what a run that stopped early was charged in the end, the rounds that it left out included.
    """
    if not rows:
        return False
    figure, axes = _figure("Privacy spent", "round", "epsilon (user level)")
    rounds = [row["round"] + 1 for row in rows]
    for name, colour, style in (("pld", BLUE, "-"), ("rdp", ORANGE, "--")):
        values = [row[f"epsilon_{name}"] for row in rows] + ([paid[name]] if paid else [])
        if any(value is None for value in values):  # no bound by this accountant
            continue
        label = f"{name.upper()} accountant" + (", stopped early and paid in full" if paid else "")
        places = [*rounds, rounds[-1] + 1] if paid else rounds
        axes.plot(places, values, style, color=colour, label=label, drawstyle="steps-post")
    axes.axhline(target, color=VERMILION, linestyle=":", label=f"target {target:g}")
    _from_zero(axes)
    figure.legend(loc="outside lower center", ncols=1 if paid else 3, frameon=False)
    _save(figure, path)
    return True


def budget_by_query(shares: Mapping[str, float], path: Path) -> bool:
    """Which part of the budget each query used (all its rounds). False when nothing was released."""
    if not shares:
        return False
    figure, axes = _figure("Where the privacy budget goes", "% of the budget (squared signal-to-noise)", "")
    names = list(shares)[::-1]
    bars = axes.barh(names, [100 * shares[name] for name in names], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.1f %%", padding=4)
    axes.set_xlim(0, max(100 * share for share in shares.values()) * 1.2)
    axes.grid(visible=False, axis="y")
    _save(figure, path)
    return True


def metrics_against_baselines(results: Mapping[str, Mapping[str, Any]], path: Path, note: str = "") -> bool:
    """HR@10 and NDCG@10 of each named result, one panel a protocol; `note` is the title. False without results."""
    protocols = [name for name in RANKED if any(name in result for result in results.values())]
    if not protocols:
        return False
    width = 4.4 * len(protocols)
    columns = 2 if max(map(len, results)) * 0.065 + 0.6 <= width / 2 else 1  # inches of a letter, and of a mark
    rows = math.ceil(len(results) / columns)
    figure = Figure(figsize=(width, 3.9 + 0.18 * max(rows - 2, 0)), layout="constrained")
    if note:
        figure.suptitle(note)
    panels = figure.subplots(1, len(protocols), squeeze=False)[0]
    looks = list(itertools.product(HATCHES, (BLUE, GREEN, ORANGE, GREY, VERMILION, PURPLE)))
    for axes, protocol in zip(panels, protocols, strict=True):
        shown = {label: result[protocol] for label, result in results.items() if protocol in result}
        width = 0.8 / len(shown)
        for place, (label, values) in enumerate(shown.items()):
            xs = [metric + (place - (len(shown) - 1) / 2) * width for metric in range(len(METRIC_NAMES))]
            heights = [values[metric] for metric in METRIC_NAMES]
            hatch, colour = looks[place % len(looks)]
            bars = axes.bar(
                xs, heights, width * 0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=label.strip()
            )
            axes.bar_label(bars, fmt="%.3f", fontsize=7, padding=2, rotation=90 if len(shown) > 4 else 0)
        axes.set_xticks(range(len(METRIC_NAMES)), list(METRIC_NAMES.values()))
        axes.set_title("Ranked against " + ("the " if protocol == "full" else "") + RANKED[protocol], fontsize=10)
        axes.set_ylabel("mean over users")
        axes.margins(y=0.12 if len(shown) <= 4 else 0.2)
        _quiet(axes)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    _save(figure, path)
    return True


def rating_errors(results: Mapping[str, Mapping[str, Any]], path: Path, note: str = "") -> bool:
    """Draw RMSE and MAE of each result that predicts ratings; `note` is the title. False without such results."""
    shown = {label.strip(): result["ratings"] for label, result in results.items() if "ratings" in result}
    if not shown:
        return False
    figure, axes = _figure(
        note or "Errors of predicted ratings (smaller is better)", "stars", "", 2.0 + 0.5 * len(shown)
    )
    names = list(shown)[::-1]
    for offset, (metric, colour) in zip((0.2, -0.2), (("rmse", BLUE), ("mae", ORANGE)), strict=True):
        places = [place + offset for place in range(len(names))]
        bars = axes.barh(places, [shown[name][metric] for name in names], 0.38, color=colour, label=metric.upper())
        axes.bar_label(bars, fmt="%.3f", fontsize=7, padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)
    return True


def quality_against_epsilon(
    series: Mapping[str, Sequence[tuple[float | None, float, float]]], metric: str, path: Path
) -> bool:
    """One line a series of (epsilon, mean, deviation) points with error bars; epsilon None, no privacy, comes last.

    False without points.
    """
    every = [point for points in series.values() for point in points]
    if not every:
        return False
    spread = ", mean ± standard deviation" if any(deviation for _, _, deviation in every) else ""
    names = {name: textwrap.fill(name, LINE) for name in series}
    below = max(map(len, series)) > LONG_LABEL or len(series) > MANY_LABELS  # or the legend takes the picture
    height = 4.0 + (0.19 * sum(name.count("\n") + 1 for name in names.values()) if below else 0)
    x_label = "epsilon (user level; further left is more private)"
    figure, axes = _figure("Quality and privacy", x_label, metric + spread, height)
    known = sorted({epsilon for epsilon, _, _ in every if epsilon is not None})
    last = math.log(known[-1]) + 0.7 if known else 0.0  # where "no privacy" stands, apart from the scale
    styles = itertools.product(LINES, zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, GREY), "osD^vP", strict=True))
    looks = itertools.cycle(styles)
    for (label, points), (style, (colour, marker)) in zip(series.items(), looks, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "capsize": 3}
        look["markerfacecolor"] = colour if style in LINES[::2] else "white"
        private = sorted((math.log(epsilon), mean, deviation) for epsilon, mean, deviation in points if epsilon)
        free = [(last, mean, deviation) for epsilon, mean, deviation in points if epsilon is None]
        if private:
            x, means, deviations = zip(*private, strict=True)
            axes.errorbar(x, means, deviations, linestyle=style, label=names[label], **look)
        if free:
            x, means, deviations = zip(*free, strict=True)
            axes.errorbar(x, means, deviations, linestyle="", label=None if private else names[label], **look)
        if private and free:
            (start, mean, _), (_, free_mean, _) = private[-1], free[0]
            axes.plot([start, last], [mean, free_mean], color=colour, linestyle=":", linewidth=1)
    ticks = {math.log(epsilon): f"{epsilon:g}" for epsilon in known}
    if any(epsilon is None for epsilon, _, _ in every):
        ticks[last] = "no privacy"
    axes.set_xticks(list(ticks), list(ticks.values()))
    _from_zero(axes)
    figure.legend(
        loc="outside lower left" if below else "outside right center", frameon=False, fontsize=8, handlelength=3
    )
    _save(figure, path)
    return True


def _figure(title: str, x: str, y: str, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    if x == "round":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(y)
    _quiet(axes)
    return figure, axes


def _from_zero(axes: Axes) -> None:
    """Up from 0, with room above the highest point."""
    axes.update_datalim([(axes.dataLim.x0, 0)])
    axes.autoscale_view()
    axes.set_ylim(bottom=0)


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context({"svg.hashsalt": "fedrec", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
