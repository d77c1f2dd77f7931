"""A whole run on new items: what the attacker changes about them changes no bit of the released model."""

import numpy as np
import polars as pl
import pytest
import torch

import fedrec
from fedrec.data.splits import Split, split

USERS, ITEMS = 120, 60


def log(loved: str | None = None, cold: tuple[str, ...] = ()) -> fedrec.Data:
    """Users of two tastes; `loved` takes the place of every event of a `cold` item."""
    draw = np.random.default_rng(2)
    events = [(u, f"i{i:02d}") for u in range(USERS) for i in draw.permutation(np.arange(u % 2, ITEMS, 2))[:12]]
    table = pl.DataFrame(
        {
            "user_id": [user for user, _ in events],
            "item_id": [loved if loved and item in cold else item for _, item in events],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{i:02d}" for i in range(ITEMS)],
            "kind": [["odd" if i % 2 else "even", f"k{i % 7}"] for i in range(ITEMS)],
        }
    )
    return fedrec.split(fedrec.read_log(table, catalogue=items), "cold-items", share=0.2)


def split_of(data: fedrec.Data) -> Split:
    return split(data.dataset, "cold-items", "test", data.seed)


@pytest.mark.parametrize("algorithm", ["als", pytest.param("kernel-rank", marks=pytest.mark.slow)])
def test_events_of_cold_items_change_no_bit_of_the_model(algorithm: str) -> None:
    settings = {"evaluation.baselines": False, "evaluation.every": 0, "evaluation.order_free": False}
    settings["algorithm.rounds"] = 2
    runs = []
    data = log().with_seed(1)
    made = split_of(data)
    assert made.new_items is not None
    cold = tuple(made.new_items.catalogue.ids[item] for item in np.flatnonzero(made.new_items.new))
    for used in (data, log(cold[0], cold).with_seed(1)):
        runs.append(fedrec.simulate(algorithm, used, epsilon="none", seed=1, progress=False, settings=settings))
    first, second = (run.model.released.tensors() for run in runs)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert not set(cold) & set(runs[0].model.items)
    assert runs[0].statement.text
    assert runs[0].metrics["new-items:ndcg@10"] > 0
