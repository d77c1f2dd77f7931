"""Cold start: algorithms by encoders of the items' text, on items and on users that training never had.

Every figure is HR@10 and NDCG@10 of one held-out item a user. A model without an answer has None.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from fedrec.data import datasets, splits
from fedrec.data.catalogue import Catalogue, Categories, Texts, Vectors
from fedrec.data.cold import WATCHED
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.data.histories import Histories
from fedrec.data.splits import Split
from fedrec.data.users import UserBatch
from fedrec.encoders.base import encoder
from fedrec.encoders.sentences import sentences
from fedrec.errors import InputError
from fedrec.evaluation.metrics import measure
from fedrec.evaluation.ranking import ranks
from fedrec.federation.data_request import DataRequest
from fedrec.kernels.public import public_kernels
from fedrec.model import ReleasedModel
from fedrec.ondevice.newcomers import EACH
from fedrec.run.scenario import Scenario
from fedrec.settings import parse
from fedrec_sim.benchmarks.grid import TOWER
from fedrec_sim.engines.setup import SimulationSetup

NONE, WORDS = "none", "words"
ALGORITHMS: dict[str, dict[str, Any]] = {
    "popularity": {"name": "popularity"},
    "content": {"name": "content"},
    "kernel-rank": {"name": "kernel-rank"},
    "als": {"name": "als"},
    "spectral": {"name": "spectral"},
    "tower content": {"name": "tower-sgd", "tower": {"name": "content"}},
    "tower mlp": {"name": "tower-sgd", "tower": {"name": "mlp"}},
    "tower hybrid": TOWER,
    "tower people": {"name": "tower-sgd", "tower": {"name": "content"}, "people": {}},
}
"""Name in a table -> the `[algorithm]` table of a scenario."""
PEOPLE: dict[str, dict[str, Any]] = {
    "ml-100k": {"gender": ["F", "M"], "age": {"limits": [18, 25, 35, 45, 50, 56]}},
    "ml-1m": {"gender": ["F", "M"], "age": {"limits": [18, 25, 35, 45, 50, 56]}},
}
"""Dataset -> the values of attributes that its publisher describes, for `tower people`."""
FEWER = {"rounds": 15, "targets": 4}
"""Settings of the hybrid tower without privacy, as in `docs/results.md`."""
KNOWN = (0, 1, 3, 5, 10)
"""Events of a new user."""
ANSWERS = (1, 2, 3)
"""Labels that a new user picks in the questionnaire."""
METRICS = ("hr@10", "ndcg@10")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        data: the `[data]` table, without a split.
        data_dir: folder of datasets.
        encoders: of the items' text: `none`, `words`, or names of `fedrec.encoders`.
        algorithms: names of `ALGORITHMS`.
        epsilons: privacy levels, "none" for none.
        seeds: of everything.
        share: part of the items (of the users) that is cold.
        on: test or validation.
        work: folder that keeps vectors between calls; None keeps none.
    """

    data: Mapping[str, Any]
    data_dir: Path | None
    encoders: Sequence[str]
    algorithms: Sequence[str]
    epsilons: Sequence[float | str]
    seeds: Sequence[int]
    share: float
    on: str = "test"
    work: Path | None = None


def cold_items(bench: Bench, say: Say) -> Iterator[dict[str, Any]]:
    """Yield one result for each seed, encoder, epsilon and algorithm, on new items."""
    for seed, dataset, named in _datasets(bench, "cold-items"):
        for name in bench.encoders:
            catalogue = _with_encoder(dataset.catalogue, named, name, bench, seed)
            silent = not public_kernels(catalogue, products=False).maps  # nothing that two items share
            for epsilon in bench.epsilons:
                for algorithm in bench.algorithms:
                    about = {"cold": "items", "seed": seed, "encoder": name, "epsilon": epsilon, "algorithm": algorithm}
                    say(f"{algorithm}, encoder {name}, epsilon {epsilon}, seed {seed} ...")
                    if silent:
                        yield about | {"new": None, "full": None}
                        continue
                    split = splits.split(replace(dataset, catalogue=catalogue), "cold-items", bench.on, seed)  # type: ignore[arg-type]
                    model = trained(replace(dataset, catalogue=catalogue), split, algorithm, epsilon, seed)
                    found = ranks(model, split, seed=seed).protocols
                    assert split.new_items is not None
                    yield about | {
                        "new": measure(found["new-items"], METRICS),
                        "full": measure(found["full"], METRICS),
                        "cold_items": int(split.new_items.new.sum()),
                        "users": int((split.targets >= 0).sum()),
                    }


def cold_users(bench: Bench, say: Say) -> Iterator[dict[str, Any]]:
    """Yield one result for each seed, encoder, epsilon, algorithm and number of known events or answers."""
    for seed, dataset, named in _datasets(bench, "cold-users"):
        for name in bench.encoders:
            whole = replace(dataset, catalogue=_with_encoder(dataset.catalogue, named, name, bench, seed))
            for epsilon in bench.epsilons:
                for algorithm in bench.algorithms:
                    about = {"cold": "users", "seed": seed, "encoder": name, "epsilon": epsilon, "algorithm": algorithm}
                    say(f"{algorithm}, encoder {name}, epsilon {epsilon}, seed {seed} ...")
                    split = _knowing(whole, WATCHED, bench.on, seed)
                    model = trained(whole, split, algorithm, epsilon, seed)
                    for known in KNOWN:
                        found = _measured(model, _knowing(whole, known, bench.on, seed), seed)
                        yield about | {"known": f"{known} events"} | found
                    for count in ANSWERS if any(isinstance(b, Categories) for b in whole.catalogue.blocks) else ():
                        asked = replace(split, device=answered(model, split.seen, whole.catalogue, count))
                        yield about | {"known": f"{count} labels"} | _measured(model, asked, seed)


def trained(dataset: Dataset, split: Split, algorithm: str, epsilon: float | str, seed: int) -> ReleasedModel:
    """Return the released model of one run in memory, with its noise from the seed."""
    settings = ALGORITHMS[algorithm] | (FEWER if epsilon == "none" and ALGORITHMS[algorithm] == TOWER else {})
    if "people" in settings:
        if dataset.name not in PEOPLE:
            raise InputError(f"--algorithms {algorithm}: needs attributes of users; use --data {' or '.join(PEOPLE)}")
        settings |= {"people": {"attributes": PEOPLE[dataset.name]}}
    table = {"data": {"name": "quickstart"}, "algorithm": settings, "privacy": {"epsilon": epsilon}}
    scenario = parse(Scenario, table, f"the run of {algorithm}")
    setup = SimulationSetup.build(
        scenario.algorithm_class,
        scenario.algorithm_config,
        scenario.privacy,
        scenario.engine,
        dataset,
        split,
        request=DataRequest(data=DataConfig(), seed=seed),
        noise_seed=seed,
    )
    return setup.counterfactual()


def answered(model: ReleasedModel, seen: Histories, catalogue: Catalogue, count: int) -> Histories:
    """Return pseudo-histories for `count` labels each, as `fedrec.ondevice.newcomers.pseudo_history` makes them.

    A simulated person picks the labels that the masked events have more often than the catalogue. The items of a label
    are its first in the list of a newcomer.
    """
    member = np.concatenate([b.membership for b in catalogue.blocks if isinstance(b, Categories)], 1)
    nobody = UserBatch(
        items=torch.zeros(0, dtype=torch.int64),
        lengths=torch.zeros(1, dtype=torch.int64),
        n_items=len(catalogue),
        keys=torch.zeros(1, dtype=torch.int64),
    )
    order = model.score(model.fit(nobody))[0].argsort(descending=True, stable=True).numpy()
    ranked = [order[member[order, label]] for label in range(member.shape[1])]
    rows = []
    for user in range(len(seen)):
        mine = seen.row(user)
        liked = member[mine].mean(0) - member.mean(0) if len(mine) else np.zeros(member.shape[1])
        chosen: list[int] = []
        for label in np.argsort(-liked, kind="stable")[:count]:
            chosen += [item for item in ranked[label] if item not in chosen][:EACH]
        rows.append(chosen)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return Histories(offsets, items, len(catalogue), ordered=False, identities=seen.identities)


def _knowing(dataset: Dataset, known: int, on: str, seed: int) -> Split:
    """The split `cold-users` in which each new user knows so many events."""
    given = replace(dataset, hold_out=dataset.hold_out.model_copy(update={"known": known}))
    return splits.split(given, "cold-users", on, seed)  # type: ignore[arg-type]


def _measured(model: ReleasedModel, split: Split, seed: int) -> dict[str, Any]:
    found = ranks(model, split, seed=seed)
    return {"full": measure(found.protocols["full"], METRICS), "users": len(found.users)}


def _datasets(bench: Bench, kind: str) -> Iterator[tuple[int, Dataset, list[str | None]]]:
    """For each seed the dataset, and a sentence for each item in catalogue order."""
    for seed in bench.seeds:
        config = parse(DataConfig, {**bench.data, "split": kind, "hold_out": {"share": bench.share}}, "--data")
        log = datasets.read(config, bench.data_dir, seed)
        dataset = datasets.load(config, bench.data_dir, seed, log)
        if log.items is None:
            raise InputError(f"--data {dataset.name}: its items have no public features, so none can be cold")
        order = pl.DataFrame({"item": list(dataset.catalogue.ids)})
        table = order.join(log.items.with_columns(pl.col("item").cast(pl.String)), "item", maintain_order="left")
        columns = [name for name in table.columns if name != "item" and not table[name].dtype.is_nested()]
        columns += [name for name in table.columns if table[name].dtype == pl.List(pl.String)]
        yield seed, dataset, sentences(table, columns)


def _with_encoder(catalogue: Catalogue, named: Sequence[str | None], name: str, bench: Bench, seed: int) -> Catalogue:
    """The catalogue with its texts as words, as vectors, or without them."""
    if name == WORDS:
        return catalogue
    plain = tuple(block for block in catalogue.blocks if not isinstance(block, Texts))
    if name == NONE:
        return replace(catalogue, blocks=plain)
    return replace(catalogue, blocks=(*plain, Vectors("text", _vectors(catalogue, named, name, bench, seed))))


def _vectors(catalogue: Catalogue, named: Sequence[str | None], name: str, bench: Bench, seed: int) -> np.ndarray:
    kept = None if bench.work is None else bench.work / f"{bench.data.get('name', 'log')}-{name}-{seed}.npy"
    if kept is not None and kept.is_file():
        found: np.ndarray = np.load(kept, allow_pickle=False)
        if len(found) != len(catalogue):
            raise InputError(f"{kept}: holds vectors of another catalogue; remove it")
        return found
    made = encoder(name)()
    made.prepare([text for text in named if text is not None])
    rows = made.encode([text or "" for text in named], "text")
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, rows)
    return rows
