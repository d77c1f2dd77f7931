"""Several held-out items a user: ranks against a full sort, metrics against loops, one item as a case of several."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.data.splits import Split
from fedrec.errors import InputError
from fedrec.evaluation import metrics
from fedrec.evaluation.metrics import Placed
from fedrec.evaluation.ranking import COUNTED, STRIPE, _counted, _counted_by_row, _lists, _top, ranks
from fedrec.evaluation.report import FULL, evaluate
from tests.core.evaluation.table_model import Table, histories


def toy(seed: int, users: int = 19, n_items: int = 40, levels: int = 6, most: int = 7) -> tuple[Split, Table]:
    """Random histories and held-out rows, some of them empty, and a model with many ties."""
    rng = np.random.default_rng(seed)
    known, held = [], []
    for _ in range(users):
        drawn = rng.permutation(n_items)
        cut = rng.integers(0, 9)
        known.append(drawn[:cut].tolist())
        held.append(drawn[cut : cut + rng.integers(0, most + 1)].tolist())
    held[0] = held[0] or [next(item for item in range(n_items) if item not in known[0])]
    events = histories(known, n_items)
    first = np.array([row[0] if row else -1 for row in held])
    split = Split(events, events, first, events, None, "toy", histories(held, n_items))
    return split, Table(torch.from_numpy(rng.integers(0, levels, size=(7, n_items))).float())


def slow(model: Table, split: Split) -> list[dict[int, int]]:
    """For each user with held-out items, the place of each in a sorted list, one user at a time."""
    found = []
    for user in range(len(split.many)):
        held = split.many.row(user).tolist()
        if not held:
            continue
        scores = model.table[(int(split.device.row(user).sum()) + 1) % len(model.table)].tolist()
        seen = set(split.seen.row(user).tolist()) - set(held)
        unseen = [item for item in range(split.device.n_items) if item not in seen]
        order = sorted(unseen, key=lambda item: (-scores[item], item in held))  # the held out last among equals
        levels = [scores[item] for item in order]
        found.append({item: order.index(item) for item in held})
        assert all(levels[i] >= levels[i + 1] for i in range(len(levels) - 1))
    return found


@pytest.mark.parametrize("most", [7, COUNTED + 9])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_scores", [1, 130, 10**6])
def test_ranks_equal_a_full_sort(seed, max_scores, most):
    split, model = toy(seed, most=most)
    if seed == 5:
        model.table[:, 7:] = -torch.inf
    found, expected = ranks(model, split, max_scores=max_scores), slow(model, split)
    assert found.users.tolist() == np.flatnonzero(split.many.lengths > 0).tolist()
    assert found.sampled is None
    for row, places in enumerate(expected):
        own = found.owners == row
        assert set(found.targets[own].tolist()) == set(places)
        # Among equals it is only the set of places that is defined.
        assert sorted(found.full[own].tolist()) == sorted(places.values())
    unseen = [40 - len(set(split.seen.row(u).tolist())) for u in found.users]
    assert (found.others + torch.bincount(found.owners)).tolist() == unseen


def test_without_ties_each_item_has_its_own_place():
    split, model = toy(11)
    generator = torch.Generator().manual_seed(0)
    model.table = torch.rand(model.table.shape, generator=generator)
    found = ranks(model, split)
    for row, places in enumerate(slow(model, split)):
        own = found.owners == row
        assert dict(zip(found.targets[own].tolist(), found.full[own].tolist(), strict=True)) == places


@pytest.mark.parametrize("seed", range(4))
def test_one_item_a_user_gives_the_same_bits_either_way(seed):
    split, model = toy(seed, most=1)
    one = replace(split, many=None)
    assert evaluate(model, split, extended=True) == evaluate(model, one, extended=True)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_scores_are_counted_alike_by_comparing_and_by_sorting(data):
    users, items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 60))
    levels = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 1.0, math.inf])
    row = st.lists(levels, min_size=items, max_size=items)
    scores = torch.tensor(data.draw(st.lists(row, min_size=users, max_size=users)))
    rows = torch.tensor(sorted(data.draw(st.lists(st.integers(0, users - 1), max_size=3 * COUNTED))), dtype=torch.int64)
    own = torch.tensor(data.draw(st.lists(levels, min_size=len(rows), max_size=len(rows))), dtype=torch.float32)
    expected = [int((scores[row] >= level).sum()) for row, level in zip(rows, own, strict=True)]
    assert _counted_by_row(scores, rows, own).tolist() == expected
    assert _counted(scores, rows, own).tolist() == expected


@pytest.mark.parametrize("items", [STRIPE * 22, STRIPE * 22 + 1, STRIPE * 30 + STRIPE - 1])
@pytest.mark.parametrize("levels", [2, 40, 10**6])
def test_the_best_items_of_a_wide_catalogue_are_those_of_a_full_sort(items, levels):
    rng = np.random.default_rng(items + levels)
    scores = torch.from_numpy(rng.integers(0, levels, (6, items)).astype(np.float32))
    scores[1], scores[2, 5:] = 0.0, -torch.inf
    scores[3, -8:] = 2.0 * levels  # the columns that belong to no stripe
    values, places = _top(scores, 11)
    assert torch.equal(values, scores.sort(dim=1, descending=True).values[:, :11])
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row.tolist())) == 11 for row in places)
    seen = torch.tensor([0, 0, 3]), torch.tensor([4, items - 1, items - 2])
    hidden = scores.clone()
    hidden[seen] = -torch.inf
    for row, found in zip(hidden.numpy(), _lists(scores, seen, 10), strict=True):
        best = np.lexsort((np.arange(items), -row))[:10]
        expected = sorted(best[row[best] > -np.inf].tolist())
        assert found[found >= 0].tolist() == expected


def test_a_constant_score_is_the_worst_model():
    split, _ = toy(3)
    found = ranks(Table(torch.zeros(7, 40)), split)
    placed = found.protocols["full"]
    last = found.others[found.owners] + placed.before
    assert torch.equal(found.full, last)
    assert metrics.measure(placed, ("auc", "gauc")) == {"auc": 0.0, "gauc": 0.0}


def test_negatives_are_left_out_where_a_split_holds_out_several():
    split, model = toy(2)
    split = replace(split, negatives=np.zeros((len(split.targets), 5), dtype=np.int64))
    assert set(evaluate(model, split)) == {"full", "rule", "users"}
    assert set(evaluate(model, split)["full"]) == {*FULL, "coverage@10"}


def test_nobody_to_rank_is_an_error():
    split, model = toy(4)
    empty = histories([[] for _ in split.targets], 40)
    with pytest.raises(InputError, match="held-out"):
        ranks(model, replace(split, many=empty))


USERS = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=14, unique=True), min_size=1, max_size=8)


def slow_metrics(rows: list[list[int]], others: list[int], k: int) -> dict[str, float]:
    """Compute the metrics literally from their definitions, from 0/1 lists."""
    each: dict[str, list[float]] = {}
    weights = []
    for row, more in zip(rows, others, strict=True):
        shown = [place in row for place in range(len(row) + more)]
        top = shown[:k]
        hits, n = sum(top), len(row)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(n, k)))
        right = sum(not later for place, is_held in enumerate(shown) if is_held for later in shown[place:])
        recall, precision = hits / n, hits / k
        values = {
            f"hr@{k}": float(hits > 0),
            f"recall@{k}": recall,
            f"precision@{k}": precision,
            f"f1@{k}": 2 * recall * precision / (recall + precision) if hits else 0.0,
            f"ndcg@{k}": sum(1 / math.log2(place + 2) for place, hit in enumerate(top) if hit) / ideal,
            f"mrr@{k}": 1 / (top.index(True) + 1) if hits else 0.0,
            f"map@{k}": sum(sum(top[: p + 1]) / (p + 1) for p, hit in enumerate(top) if hit) / min(n, k),
            "auc": right / (n * more),
        }
        weights.append(n)
        for name, value in values.items():
            each.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in each.items()}
    return means | {"gauc": float(np.average(each["auc"], weights=weights))}


@settings(max_examples=80, deadline=None)
@given(USERS, st.integers(1, 30), st.randoms(use_true_random=False))
def test_metrics_equal_loops(rows, k, random):
    others = [61 - len(row) + random.randint(0, 5) for row in rows]
    for row in rows:
        random.shuffle(row)
    placed = Placed(
        torch.tensor([rank for row in rows for rank in row]),
        torch.tensor([user for user, row in enumerate(rows) for _ in row]),
        torch.tensor(others),
    )
    expected = slow_metrics(rows, others, k)
    found = metrics.measure(placed, tuple(expected))
    assert found == pytest.approx(expected, abs=1e-12)
    for name, value in found.items():
        assert value == pytest.approx(float(metrics.values(placed, name).mean()), abs=1e-12)
        assert name == "gauc" or float(metrics.values(placed, name).min()) >= 0
        assert value <= 1 + 1e-12
