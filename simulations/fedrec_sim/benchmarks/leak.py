"""The table of `docs/leak.md`: published figures of federated recommenders beside leaky and clean re-runs.

Each run is a `fedrec simulate` in a process and a folder of its own; finished runs are read, begun ones resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrec.run.scenario import checked
from fedrec_sim.experiment.child_run import child_scenario
from fedrec_sim.experiment.sweep import mean_and_deviation, spread

Summary = Mapping[str, Any]

AS_PUBLISHED = {  # of PFedRec's code: full participation, averaging; see docs/leak.md for what differs
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "dim": 32,
    "init_std": 5.66,
    "private_learning_rate": 1.0,
    "own_items": True,
    "events": 200,
    "rounds": 60,
}


@dataclass(frozen=True)
class Row:
    """One row: an algorithm on a dataset. published: HR@10, NDCG@10 of PFedRec's paper (IJCAI 2023) or its own."""

    label: str
    dataset: str
    algorithm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[float, float] | None = None
    slug: str = ""
    samples: bool = True
    """False: the algorithm draws no negatives, so that there is nothing to leak."""

    def folder(self, seed: int, leaky: bool) -> str:
        """Return a run's folder."""
        name = "-".join(filter(None, [self.dataset, self.algorithm, self.slug]))
        return f"{name}-{'leaky' if leaky else 'clean'}-seed-{seed}"

    def run(self, seed: int, leaky: bool, work: Path, data_dir: Path | None) -> Summary:
        """Return the summary of a run, read if it is finished. Raises: FedrecError that names the folder."""
        values = {
            "name": self.folder(seed, leaky),
            "seed": seed,
            "data": {"name": self.dataset, "split": "ncf" if self.dataset == "ml-1m" else "leave-one-out"},
            "algorithm": {"name": self.algorithm, **self.settings},
            "privacy": {"epsilon": "none"},
            "evaluation": {"every": 0, "order_free": False, "leaky_negatives": leaky},
        }
        return child_scenario(checked(values, self.label), work / self.folder(seed, leaky), data_dir)


def _rows(dataset: str, items: int, published: Mapping[str, tuple[float, float]]) -> tuple[Row, ...]:
    pfedrec = AS_PUBLISHED | {"local_learning_rate": 0.1 * 80 * items}  # the code's rate x lr_eta x items
    return (
        Row("PFedRec, settings of its code", dataset, "pfedrec", pfedrec, published["pfedrec"], "as-published"),
        Row("PFedRec (`pfedrec`)", dataset, "pfedrec", {}, published["pfedrec"]),
        Row("FedNCF (`fedncf`)", dataset, "fedncf", {}, published["fedncf"]),
        Row("FedRecon (`fedrecon`)", dataset, "fedrecon", {}, published["fedrecon"]),
        Row("FedMF / FCF (`fcf`)", dataset, "fcf", {}, published["fedmf"], samples=False),
        Row("GPFedRec (`gpfedrec`)", dataset, "gpfedrec"),
        Row("CoFedRec (`cofedrec`)", dataset, "cofedrec", {}, published.get("cofedrec")),
        Row("FedRAP (`fedrap`)", dataset, "fedrap"),
    )


SECTIONS: dict[str, tuple[Row, ...]] = {
    "ml-100k": _rows(
        "ml-100k",
        1682,
        {
            "pfedrec": (0.7162, 0.4344),
            "fedncf": (0.6062, 0.3325),
            "fedrecon": (0.6445, 0.3778),
            "fedmf": (0.6515, 0.3938),
        },
    ),
    "ml-1m": _rows(
        "ml-1m",
        3706,
        {
            "pfedrec": (0.7326, 0.4436),
            "fedncf": (0.6054, 0.3417),
            "fedrecon": (0.6328, 0.3659),
            "fedmf": (0.6772, 0.4090),
            "cofedrec": (0.7775, 0.4881),
        },
    ),
}
TITLES = {"ml-100k": "MovieLens-100K, all ratings as events", "ml-1m": "MovieLens-1M, NCF leave-one-out"}


def section(
    dataset: str, seeds: Sequence[int], run: Callable[[Row, int, bool], Summary], said: Callable[[str], None]
) -> str:
    """Return one dataset's table. run: returns a run's summary; said: called with the next run."""
    lines: list[str] = []
    popularity: list[Mapping[str, Any]] = []
    for row in SECTIONS[dataset]:
        cells = []
        for leaky in (True, False):
            if leaky and not row.samples:
                cells.append("draws no negatives")
                continue
            results = []
            for seed in seeds:
                said(f"{dataset}: {row.label}, {'leaky' if leaky else 'clean'}, seed {seed} ...")
                summary = run(row, seed, leaky)
                results.append(summary["metrics"])
                rule = summary["metrics"]["rule"]
                popularity.append(summary["baselines"]["popularity"])
            cells.append(_cell(results))
        published = " / ".join(f"{value:.4f}" for value in row.published) if row.published else ""
        lines.append(f"| {row.label} | {published} | {' | '.join(cells)} | {len(seeds)} |")
    floor = popularity[-len(seeds) :]
    head = "| HR@10 / NDCG@10 of 100 | published | leaky re-run | clean re-run | seeds |"
    lines.append(f"| popularity | | | {_cell(floor)} | {len(seeds)} |")
    return "\n".join([f"### {TITLES[dataset]}", "", f"Rule: {rule}", "", head, "|---|---|---|---|---|", *lines])


def write(page: Path, sections: Sequence[str]) -> None:
    """Replace the tables between the page's markers, and keep the rest of the page."""
    begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
    text = page.read_text(encoding="utf-8") if page.is_file() else begin + end
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(before + begin + "\n" + "\n\n".join(sections) + "\n\n" + end + after, encoding="utf-8")


def _cell(results: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for metric in ("hr@10", "ndcg@10"):
        values = [result["sampled-99"][metric] for result in results]
        parts.append(mean_and_deviation(*spread(values)))
    return " / ".join(parts)
