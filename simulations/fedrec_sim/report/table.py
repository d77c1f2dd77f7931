"""The results of a run as one table, and its privacy as one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table

from fedrec.errors import nearest
from fedrec_sim.engines.leak import NOTE, STAMP

COLUMNS = {
    "new-items": ("hr@10", "ndcg@10"),
    "full": ("hr@10", "ndcg@10", "recall@20"),
    "sampled-99": ("hr@10", "ndcg@10"),
    "ratings": ("rmse", "mae"),
}
HEADS = {"new-items": "of new", "full": "full", "sampled-99": "of 100", "ratings": "stars"}
MEANING = {
    "new-items": "of new: among the new items alone",
    "full": "full: among all items",
    "sampled-99": "of 100: among 99 sampled ones",
    "ratings": "stars: errors of predicted ratings",
}
MEANS = ("global mean", "user mean", "item mean", "user and item means")
"""Baselines of predicted ratings."""
TRUE_FIGURES = (
    "TRUE figures, which no epsilon covers: every metric of this table, the counts above it, the cost below.\n"
    "Private looks alone are charged and noised."
)
"""The text between the table and the line with epsilon."""
NAMES = {"hr": "HR", "ndcg": "NDCG", "recall": "R", "rmse": "RMSE", "mae": "MAE"}
USUAL_CUT = 10
"""The default cut-off."""


def stamp(summary: Mapping[str, Any]) -> str:
    """Return the suffix of the label of a run that reproduces the published leak; empty for any other."""
    return f", {STAMP}" if summary["evaluation"].get("leaky_negatives") else ""


def labelled_results(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the run, its order-free figure and the baselines, by their labels."""
    found = {summary["scenario"] + stamp(summary): summary["metrics"]}
    if summary["order_free"]:
        found["  order of events ignored"] = summary["order_free"]
    private = summary["baselines"].get("dp-popularity")
    if private:
        found[f"DP popularity, epsilon {private['epsilon']:.3g}"] = private
    if summary["baselines"].get("popularity"):
        found["popularity, not private"] = summary["baselines"]["popularity"]
    for name in MEANS:
        if summary["baselines"].get(name):
            found[f"{name}, not private"] = summary["baselines"][name]
    return found


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return every figure of a result by `protocol:metric`, such as "full:ndcg@10"."""
    return {
        f"{protocol}:{name}": value
        for protocol, values in metrics.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def nearest_metric(metric: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown metric: the usual cut-off of the same metric, or the nearest one."""
    wanted, known = metric.rpartition(":")[2], list(known)
    kind, _, cut = wanted.partition("@")
    same = [name for name in known if name.rpartition(":")[2].partition("@")[0] == kind]
    same = [name for name in same if metric.startswith(name.partition(":")[0]) or ":" not in metric] or same
    for suffix in (f"@{cut}", f"@{USUAL_CUT}"):
        usual = [name for name in same if name.endswith(suffix)]
        if usual:
            return f" Did you mean '{usual[0]}'?"
    return f" Did you mean {' or '.join(map(repr, same))}?" if same else nearest(metric, known)


def head(metric: str) -> str:
    """Return a metric `protocol:name@k` as the head of a column."""
    protocol, _, name = metric.partition(":")
    kind, at, k = name.partition("@")
    return f"{NAMES.get(kind, kind)}{at}{k}\n{HEADS.get(protocol, protocol)}"


def results_table(summary: Mapping[str, Any]) -> Table:
    """Return a table with one row for each result, and columns by protocol: full catalogue, 99 sampled items."""
    results = labelled_results(summary)
    protocols = [name for name in COLUMNS if any(name in result for result in results.values())]
    data = summary["dataset"]
    size = f"{data['users']:,} users, {data['items']:,} items, {data['interactions']:,} interactions"
    held_out = "ranked: VALIDATION items" if summary["evaluation"].get("on") == "validation" else ""
    table = Table(
        title="\n".join(filter(None, [f"{data['name']}: {size}", held_out, NOTE if stamp(summary) else ""])),
        title_justify="left",
        caption="; ".join([*(MEANING[protocol] for protocol in protocols), "more in private/summary.json"]),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        min_width=76,
        padding=(0, 1),
    )
    table.add_column("", no_wrap=True)
    narrow = not {"ratings", "new-items"}.isdisjoint(protocols)
    columns = {name: COLUMNS[name][:2] if narrow else COLUMNS[name] for name in protocols}
    for protocol in protocols:
        for metric in columns[protocol]:
            table.add_column(head(f"{protocol}:{metric}"), justify="right", no_wrap=True)
    for place, (label, result) in enumerate(results.items()):
        cells = [
            f"{result[name][metric]:.4f}" if name in result else "" for name in protocols for metric in columns[name]
        ]
        table.add_row(label, *cells, style="bold" if place == 0 else "")
    return table


def privacy_line(summary: Mapping[str, Any]) -> str:
    """State the guarantee in one sentence, and another one where the noise is no secret."""
    privacy = summary["privacy"]
    if privacy["epsilon"] is None:
        return "Privacy: none. This run releases sums without noise."
    known = {name: value for name, value in privacy["accountants"].items() if value is not None}
    accountants = ", ".join(f"{name.upper()} {value:.4g}" for name, value in known.items())
    return (
        f"Privacy: {privacy['guarantee']}, epsilon {privacy['epsilon']:.4g} ({accountants}) at delta "
        f"{privacy['delta']:g}, unit {privacy['unit']}, trust model {privacy['trust']}."
        + ("" if summary["seed"] is None else " The noise follows from the seed: anyone with the seed can remove it.")
    )
