"""What `docs/results.md` shows: every algorithm on every dataset at every privacy level, and published protocols.

Settings are the algorithms' own defaults, which follow the budget and the number of users, but for what `TOWER` says;
all were chosen on validation splits. Nothing here is chosen by a figure that the page shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Privacy = float | str
"""An epsilon, or "none"."""

SAMPLED = (("HR@10 of 100", "sampled-99", "hr@10"), ("NDCG@10 of 100", "sampled-99", "ndcg@10"))
FULL = (("HR@10 full", "full", "hr@10"), ("NDCG@10 full", "full", "ndcg@10"), ("R@20 full", "full", "recall@20"))
DEEP = (("HR@50 full", "full", "hr@50"), ("NDCG@50 full", "full", "ndcg@50"))
Columns = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Row:
    """One algorithm at one privacy level.

    Attributes:
        label: in the table.
        algorithm: the `[algorithm]` table of a scenario.
        epsilon: the privacy level.
        delta: of the guarantee.
        data: settings of `[data]` that differ from the section's.
        metadata: False to take the public features out of the catalogue.
    """

    label: str
    algorithm: Mapping[str, Any]
    epsilon: Privacy
    delta: float = 1e-5
    data: Mapping[str, Any] = field(default_factory=dict)
    metadata: bool = True

    @property
    def name(self) -> str:
        """What the row is called in the store."""
        return f"{self.label}, epsilon {self.epsilon}"


@dataclass(frozen=True)
class Section:
    """One table: a dataset, a protocol, rows, and what others published for it (figures by column, or None)."""

    name: str
    title: str
    data: Mapping[str, Any]
    rows: tuple[Row, ...]
    columns: Columns
    seeds: int = 3
    note: str = ""
    published: tuple[tuple[str, tuple[float | None, ...]], ...] = field(default=())


TOWER = {
    "name": "tower-sgd",
    "hold_out": "next",
    "alpha0": 0.03,
    "reg": 0.03,
    "decay": 0.95,
    "tower": {"name": "hybrid", "dim": 64, "id_scale": 0.3, "init_std": 0.01},
}
"""The hybrid tower of the scenario `ml-1m-towers`."""

NO_ORDER, NO_METADATA = "kernel-rank, no order", "kernel-rank, no metadata"
LEVELS: tuple[Privacy, ...] = ("none", 8.0, 3.0, 1.0)
ABLATED: tuple[Privacy, ...] = ("none", 1.0)
"""Levels of the ablations: both ends."""


def _algorithm(name: str, epsilon: Privacy) -> dict[str, Any]:
    if name == "tower-sgd, hybrid":
        return TOWER | ({"rounds": 15, "targets": 4} if epsilon == "none" else {})
    if name == "tower-sgd, id":
        return {"name": "tower-sgd"} | ({"rounds": 15} if epsilon == "none" else {})
    return {"name": name}


ALGORITHMS = (
    "kernel-rank",
    "als",
    "spectral",
    "tower-sgd, hybrid",
    "tower-sgd, id",
    "fcf",
    "fedncf",
    "fedrecon",
    "pfedrec",
    "popularity",
)


def _ablations(*, order: bool = True, metadata: bool = True) -> tuple[Row, ...]:
    """The flagship at both ends, trained and ranked without order, and without public features of items."""
    flagship = {"name": "kernel-rank"}
    without: list[tuple[str, dict[str, Any]]] = []
    if order:
        without.append((NO_ORDER, {"data": {"ordered": False}}))
    if metadata:
        without.append((NO_METADATA, {"metadata": False}))
    return tuple(Row(name, flagship, level, **change) for name, change in without for level in ABLATED)


def _grid(*, content: bool = True) -> tuple[Row, ...]:
    """Every algorithm at every level; content: also those that need public features of items."""
    names = [name for name in ALGORITHMS if content or name != "tower-sgd, hybrid"]
    rows = [Row(name, _algorithm(name, level), level) for level in LEVELS for name in names]
    return (*rows, Row("content", {"name": "content"}, "none")) if content else tuple(rows)


SECTIONS = (
    Section("ml-100k", "MovieLens-100K, leave-one-out", {"name": "ml-100k"}, (*_grid(), *_ablations()), SAMPLED + FULL),
    Section(
        "ml-100k-liked",
        "MovieLens-100K, ratings of 4 and above, leave-two-out, whatever a user rated is masked",
        {"name": "ml-100k", "split": "leave-two-out", "min_rating": 4.0, "mask_dropped": True},
        (
            *(Row("kernel-rank", {"name": "kernel-rank"}, epsilon) for epsilon in ("none", 8.0, 4.0, 2.0, 1.0)),
            *(Row("popularity", {"name": "popularity"}, epsilon) for epsilon in ("none", 8.0, 4.0, 2.0, 1.0)),
            *(
                Row("popularity by counts", {"name": "popularity", "counts": True}, epsilon)
                for epsilon in ("none", 8.0, 4.0, 2.0, 1.0)
            ),
        ),
        FULL[:2],
        seeds=5,
        note="The protocol of a published comparison of private federated recommenders, with its figures (5 seeds).",
        published=(
            ("published: DP popularity, epsilon 8 to 2", (None, 0.0495)),
            ("published: DP popularity, epsilon 1", (None, 0.0484)),
            ("published: best personalised, epsilon 8", (None, 0.0523)),
            ("published: best personalised, epsilon 4", (None, 0.0458)),
            ("published: best personalised, epsilon 2", (None, 0.0408)),
            ("published: best personalised, epsilon 1", (None, 0.0251)),
            ("published: federated, no privacy", (None, 0.0890)),
        ),
    ),
    Section(
        "ml-latest-small",
        "MovieLens-latest-small, leave-one-out",
        {"name": "ml-latest-small"},
        (*_grid(), *_ablations()),
        SAMPLED[:1] + FULL[:2] + DEEP,
        note="Published figures (FedVLR, full ranking, d = 64) use item pictures and texts where the name says so; "
        "popularity under this split lands where their federated rows do, so the protocols agree closely.",
        published=(
            ("published: FedAvg", (None, None, None, 0.1180, 0.0379)),
            ("published: FCF", (None, None, None, 0.1164, 0.0372)),
            ("published: FCF + FedVLR", (None, None, None, 0.1328, 0.0391)),
            ("published: MGCN, central", (None, None, None, 0.2574, 0.0710)),
        ),
    ),
    Section(
        "ml-1m",
        "MovieLens-1M, NCF leave-one-out",
        {"name": "ml-1m", "split": "ncf"},
        (*_grid(), Row("kernel-rank", {"name": "kernel-rank"}, 0.5), *_ablations()),
        SAMPLED + FULL,
    ),
    Section(
        "citeulike",
        "CiteULike, a random fifth of each user's articles held out",
        {"path": "citeulike/events.parquet", "split": "ratio", "hold_out": {"share": 0.2}},
        _grid(content=False),
        FULL,
        note="The log has no order, the articles no metadata.",
    ),
    Section(
        "beauty",
        "Beauty products, leave-one-out",
        {"path": "beauty/events.parquet", "catalogue": "beauty/catalogue.parquet"},
        (*_grid(), *_ablations()),
        FULL + SAMPLED[:1],
    ),
    Section(
        "gowalla",
        "Gowalla, its own split",
        {"name": "gowalla", "split": "given"},
        _grid(content=False),
        FULL,
        note="The log has no order, the places no metadata.",
    ),
)
