"""Exposure in lists, against loops over lists and pairs; results by group; memory that does not grow with users."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fedrec.data.catalogue import Catalogue, Categories, Numbers, Vectors
from fedrec.data.splits import Split
from fedrec.evaluation import exposure as exposure_module
from fedrec.evaluation.exposure import content_rows, diversity, exposure, gini, head, popularity
from fedrec.evaluation.groups import activity_tiers, by_group, item_tiers
from fedrec.evaluation.metrics import measure
from fedrec.evaluation.ranking import Ranks, ranks
from fedrec.evaluation.report import evaluate
from tests.core.evaluation.table_model import Table, histories

ITEMS = 30


def catalogue(rng: np.random.Generator) -> Catalogue:
    """Categories and vectors, some of both missing, and a block that is no content."""
    member = rng.random((ITEMS, 5)) < 0.3
    vectors = rng.normal(size=(ITEMS, 4)).astype(np.float32)
    member[:6], vectors[3:9] = False, 0.0
    blocks = (Categories("genre", tuple("abcde"), member), Numbers("year", np.arange(30.0)), Vectors("text", vectors))
    return Catalogue(tuple(map(str, range(ITEMS))), blocks=blocks)


def case(seed: int, users: int = 25) -> tuple[Split, Ranks, Catalogue]:
    """A random split with repeats in the log, and what a model with ties and few listable items makes of it."""
    rng = np.random.default_rng(seed)
    train = [rng.choice(ITEMS - 4, size=rng.integers(0, 12)).tolist() for _ in range(users)]
    events = histories(train, ITEMS)
    split = Split(events, events, rng.integers(-1, ITEMS, size=users), events, None, "toy")
    split.targets[0] = 3
    table = torch.from_numpy(rng.integers(0, 5, size=(7, ITEMS))).float()
    table[2, 4:] = -torch.inf  # a user of this row has at most four items in the list
    table[3, :] = -torch.inf
    return split, ranks(Table(table), split), catalogue(rng)


def slow_exposure(split: Split, found: Ranks, items: Catalogue) -> dict[str, float]:
    """One list, one item and one pair at a time."""
    having = [sum(i in split.train.row(u) for u in range(len(split.train))) for i in range(ITEMS)]
    ranking = sorted(range(ITEMS), key=lambda i: (-having[i], i))
    tail = set(ranking[round(0.2 * ITEMS) :])
    features = content_rows(items).double()
    lists = [[i for i in row if i >= 0] for row in found.lists.tolist()]
    shown = [sum(i in row for row in lists) for i in range(ITEMS)]
    novelty, arp, tails, diverse, had, got = [], [], [], [], [], []
    for user, row in zip(found.users, lists, strict=True):
        if not row:
            continue
        novelty.append(np.mean([-math.log2(max(having[i], 1) / len(split.train)) for i in row]))
        arp.append(np.mean([having[i] for i in row]))
        tails.append(np.mean([i in tail for i in row]))
        pairs = [(a, b) for a in row for b in row if a < b and features[a].any() and features[b].any()]
        if pairs:
            diverse.append(np.mean([1 - float(features[a] @ features[b]) for a, b in pairs]))
        if len(split.device.row(user)):
            had.append(np.mean([having[i] for i in split.device.row(user)]))
            got.append(arp[-1])
    mean_difference = sum(abs(a - b) for a in shown for b in shown) / ITEMS**2
    return {
        "gini@10": mean_difference / (2 * np.mean(shown)),
        "novelty@10": np.mean(novelty),
        "popularity@10": np.mean(arp),
        "popularity-lift@10": (np.mean(got) - np.mean(had)) / np.mean(had),
        "tail@10": np.mean(tails),
        "diversity@10": np.mean(diverse),
    }


@pytest.mark.parametrize("seed", range(8))
def test_exposure_equals_loops(seed):
    split, found, items = case(seed)
    assert exposure(found, split, items) == pytest.approx(slow_exposure(split, found, items), abs=1e-6)


def test_what_cannot_be_measured_is_left_out():
    split, found, items = case(0)
    strangers = replace(split, device=histories([[] for _ in split.targets], ITEMS))
    assert "popularity-lift@10" not in exposure(found, strangers)
    nobodys = replace(split, train=histories([[] for _ in split.targets], ITEMS))
    assert "popularity-lift@10" not in exposure(found, nobodys)
    assert "diversity@10" not in exposure(found, split)
    assert "diversity@10" not in exposure(found, split, Catalogue(items.ids, blocks=items.blocks[1:2]))


def test_the_chunk_changes_nothing(monkeypatch):
    split, found, items = case(1)
    whole = exposure(found, split, items)
    monkeypatch.setattr(exposure_module, "CHUNK", 20)
    assert exposure(found, split, items) == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_gini_is_half_the_relative_mean_difference(counts):
    found = gini(torch.tensor(counts))
    n, total = len(counts), sum(counts)
    expected = sum(abs(a - b) for a in counts for b in counts) / (2 * n * total) if total else 0.0
    assert found == pytest.approx(expected, abs=1e-12)
    assert -1e-12 <= found <= 1 - 1 / n + 1e-12


def test_gini_knows_equality_and_one_who_has_it_all():
    assert gini(torch.full((8,), 3)) == 0
    assert gini(torch.tensor([0] * 9 + [5])) == pytest.approx(0.9)


def test_equal_items_are_not_diverse_and_unlike_ones_wholly():
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0]])
    lists = torch.tensor([[-1, 0, 1], [-1, 0, 2], [0, 1, 2], [-1, 0, 3], [-1, -1, -1]])
    found = diversity(lists, features)
    assert found[:3].tolist() == pytest.approx([0, 1, 2 / 3])
    assert found[3:].isnan().all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.floats(0, 1))
def test_the_head_is_as_large_as_asked_and_nothing_outside_is_more_popular(counts, part):
    inside = head(torch.tensor(counts).double(), part)
    assert int(inside.sum()) == round(part * len(counts))
    within = [c for c, i in zip(counts, inside.tolist(), strict=True) if i]
    outside = [c for c, i in zip(counts, inside.tolist(), strict=True) if not i]
    assert not within or not outside or min(within) >= max(outside)


@pytest.mark.parametrize("seed", range(4))
def test_groups_equal_metrics_of_the_parts(seed):
    split, found, _ = case(seed)
    groups = by_group(found, split, ("hr@10", "ndcg@10"))
    active, tiers = activity_tiers(split.device.lengths[found.users]), item_tiers(popularity(split.train))
    parts = {
        "activity": (active.numpy(), ("low", "medium", "high")),
        "popularity": (tiers[found.targets].numpy(), ("top", "middle", "tail")),
    }
    for kind, (tier, names) in parts.items():
        for number, name in enumerate(names):
            rows = [row for row in range(len(found.users)) if tier[row] == number]
            if not rows:
                assert name not in groups[kind]
                continue
            full = [int(found.full[row]) for row in rows]
            expected = {
                "hr@10": np.mean([r < 10 for r in full]),
                "ndcg@10": np.mean([1 / math.log2(r + 2) if r < 10 else 0 for r in full]),
            }
            assert groups[kind][name]["full"] == pytest.approx(expected)
            assert groups[kind][name]["users"] == len(rows)
    whole = measure(found.protocols["full"], ("hr@10",))["hr@10"]
    for kind in parts:
        mean = sum(g["full"]["hr@10"] * g["users"] for g in groups[kind].values()) / len(found.users)
        assert mean == pytest.approx(whole)


def test_users_of_equal_activity_are_in_one_tier():
    assert activity_tiers(np.array([1, 1, 1, 1, 9])).tolist() == [1, 1, 1, 1, 2]
    assert activity_tiers(np.arange(9)).bincount().tolist() == [3, 3, 3]


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("several", [False, True])
def test_no_tensor_is_of_users_times_items(several, monkeypatch):
    users, n_items, most = 400, 3000, 1 << 14
    rng = np.random.default_rng(0)
    rows = [rng.choice(n_items, size=6, replace=False) for _ in range(users)]
    events, held = (
        histories([r[:3].tolist() for r in rows], n_items),
        histories([r[3:].tolist() for r in rows], n_items),
    )
    targets = np.array([r[3] for r in rows])
    split = Split(events, events, targets, events, None, "toy", held if several else None)
    model = Table(torch.from_numpy(rng.random((3, n_items))).float())
    items = Catalogue(tuple(map(str, range(n_items))), blocks=(Vectors("v", rng.normal(size=(n_items, 4))),))
    monkeypatch.setitem(ranks.__kwdefaults__, "max_scores", most)
    with Largest() as largest:
        report = evaluate(model, split, extended=True, catalogue=items)
    assert report["users"] == users
    assert largest.elements <= most + n_items < users * n_items / 10
