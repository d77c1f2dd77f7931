"""`fedrec bench results --peers`: central peers on the split of each table, in the same store.

A peer's setting is chosen once for each table, by NDCG@10 of full ranking of some users' validation items. The test
items decide nothing.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from fedrec.data import datasets, splits
from fedrec.data.splits import Split
from fedrec.errors import FedrecError
from fedrec.evaluation.report import evaluate
from fedrec.model import ReleasedModel
from fedrec_sim.benchmarks import results
from fedrec_sim.benchmarks.grid import Section
from fedrec_sim.benchmarks.peers import FACTORS, ITERATIONS, MOST_EASE_ITEMS, PEERS, CentralModel, Peer, Setting, chosen

RANKED = 500
"""Users, drawn once, whose validation items decide on a setting."""


def key(section: Section, peer: Peer, seed: int) -> str:
    """Return the name of a peer's run in the store."""
    return f"{section.name} | central {peer.name} | {seed}"


def settings_hash(section: Section, peer: Peer) -> str:
    """Return a hash of the table's data and of the settings that are tried."""
    parts = [dict(section.data), peer.name, dict(peer.first), peer.steps, FACTORS, ITERATIONS, MOST_EASE_ITEMS, RANKED]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def of(section: Section, store: results.Results) -> list[tuple[Peer, list[dict[str, Any]]]]:
    """Return the finished runs of each peer, by seed; peers without any are left out."""
    found = []
    for peer in PEERS:
        wanted = settings_hash(section, peer)
        runs = [store.runs.get(key(section, peer, seed)) for seed in range(section.seeds)]
        if kept := [run for run in runs if run is not None and run["settings"] == wanted]:
            found.append((peer, kept))
    return found


def fill(
    store: results.Results,
    sections: Sequence[Section],
    seeds: int | None,
    data_dir: Path | None,
    say: Callable[[str], None],
) -> list[str]:
    """Run the peers that the store lacks, and return what failed.

    Args:
        store: of finished runs.
        sections: tables.
        seeds: most seeds of a table; None for what each asks. A seed draws the split where the data have no order.
        data_dir: folder of datasets.
        say: takes a line of progress.
    """
    failures: list[str] = []
    for section in sections:
        lacking = [
            (peer, seed)
            for seed in range(min(section.seeds, section.seeds if seeds is None else seeds))
            for peer in PEERS
            if store.runs.get(key(section, peer, seed), {}).get("settings") != settings_hash(section, peer)
        ]
        if not lacking:
            continue
        try:
            for seed in sorted({seed for _, seed in lacking}):
                _fill_seed(store, section, seed, [peer for peer, of_seed in lacking if of_seed == seed], data_dir, say)
        except FedrecError as error:
            failures.append(f"{section.name}, central peers: {error}")
            say(f"failed: {error}")
    return failures


def _fill_seed(
    store: results.Results,
    section: Section,
    seed: int,
    peers: Sequence[Peer],
    data_dir: Path | None,
    say: Callable[[str], None],
) -> None:
    wanted = results.scenario(section, section.rows[0], seed, data_dir)
    dataset = datasets.load(wanted.data, data_dir, seed)
    split = splits.split(dataset, wanted.data.split, "test", seed)
    for peer in peers:
        if peer.after and not split.device.ordered:
            continue
        setting = _known(store, section, peer.name)
        if setting is None:
            start = _known(store, section, peer.after) or {}
            setting = _tuned(peer, start, splits.split(dataset, wanted.data.split, "validation", seed), seed, say)
        say(f"{section.title}: central {peer.name}, seed {seed}, {dict(setting)}")
        model = peer.model(split.train, setting)
        metrics = _metrics(model, split, seed)
        run = {"settings": settings_hash(section, peer), "metrics": results.short(metrics), "chosen": dict(setting)}
        store.add(key(section, peer, seed), run | {"rule": metrics["rule"], **results.made_by()})


def _known(store: results.Results, section: Section, name: str) -> Setting | None:
    for peer, runs in of(section, store):
        if peer.name == name:
            return dict(runs[0]["chosen"])
    return None


def _tuned(peer: Peer, start: Setting, validation: Split, seed: int, say: Callable[[str], None]) -> Setting:
    ranked = np.flatnonzero(validation.targets >= 0)
    some = np.sort(np.random.default_rng(seed).permutation(ranked)[:RANKED])

    def quality(setting: Setting) -> float:
        full = cast(dict[str, float], _metrics(peer.model(validation.train, setting), validation, seed, some)["full"])
        say(f"  {peer.name} {dict(setting)}: validation NDCG@10 {full['ndcg@10']:.4f}")
        return full["ndcg@10"]

    return chosen(peer, quality, start)


def _metrics(model: CentralModel, split: Split, seed: int, users: np.ndarray | None = None) -> dict[str, object]:
    # Ranking asks a model to fit and to score alone, which a central model does, too.
    return evaluate(cast(ReleasedModel, model), split, seed=seed, users=users)
