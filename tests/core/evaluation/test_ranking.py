"""Ranking and its metrics against loops and a full sort."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.data.splits import Split
from fedrec.errors import FedrecError, InputError
from fedrec.evaluation import metrics
from fedrec.evaluation.metrics import Placed
from fedrec.evaluation.ranking import rank_newest, ranks
from fedrec.evaluation.report import FULL, RULE, evaluate
from fedrec.progress import Step, listening
from tests.core.evaluation.table_model import Table, histories


def toy(seed: int = 0, users: int = 23, n_items: int = 40, levels: int = 6) -> tuple[Split, Table]:
    """A random split, some users without target or history, and a model with many ties."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(n_items, size=rng.integers(0, 9), replace=False).tolist() for _ in range(users)]
    targets = rng.integers(-1, n_items, size=users)
    targets[0] = 3
    negatives = np.stack([rng.choice(n_items, size=12, replace=False) for _ in range(users)])
    events = histories(rows, n_items)
    split = Split(train=events, device=events, seen=events, targets=targets, negatives=negatives, rule="toy")
    return split, Table(torch.from_numpy(rng.integers(0, levels, size=(7, n_items))).float())


def slow_ranks(model: Table, split: Split, order_free: bool = False) -> tuple[list[int], list[int], set[int]]:
    """One user and one item at a time, by the words of the rule."""
    full, sampled, listed = [], [], set()
    for user, target in enumerate(split.targets.tolist()):
        if target < 0:
            continue
        row = (int(split.device.row(user).sum()) + (not order_free)) % len(model.table)
        scores = model.table[row].tolist()
        seen = set(split.seen.row(user).tolist()) - {target}
        others = [i for i in range(split.device.n_items) if i != target and i not in seen]
        order = sorted([*others, target], key=lambda i: (-scores[i], i == target))  # the target last among equals
        full.append(order.index(target))
        sampled.append(sum(scores[i] >= scores[target] for i in split.negatives[user].tolist() if i != target))
        best = sorted([*others, target], key=lambda i: (-scores[i], i))[:10]
        listed |= {i for i in best if scores[i] > -math.inf}
    return full, sampled, listed


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("order_free", [False, True])
def test_ranks_equal_a_full_sort(seed, order_free):
    split, model = toy(seed)
    found = ranks(model, split, order_free=order_free)
    full, sampled, listed = slow_ranks(model, split, order_free)
    assert found.full.tolist() == full
    assert found.sampled.tolist() == sampled
    assert set(found.listed.nonzero().squeeze(1).tolist()) == listed
    assert found.users.tolist() == [u for u, t in enumerate(split.targets) if t >= 0]


@pytest.mark.parametrize("levels", [1, 2, 10**6])
def test_ties_and_repeated_events(levels):
    split, model = toy(8, levels=levels)
    split = replace(split, seen=histories([[*split.seen.row(u), *split.seen.row(u)] for u in range(23)], 40))
    full, _, listed = slow_ranks(model, split)
    found = ranks(model, split)
    assert found.full.tolist() == full
    assert set(found.listed.nonzero().squeeze(1).tolist()) == listed


@pytest.mark.parametrize("max_scores", [1, 40, 121, 10**6])
def test_the_chunk_changes_nothing(max_scores):
    split, model = toy(1)
    found, whole = ranks(model, split, max_scores=max_scores), ranks(model, split)
    assert torch.equal(found.full, whole.full)
    assert torch.equal(found.sampled, whole.sampled)
    assert torch.equal(found.listed, whole.listed)


def test_no_more_scores_than_allowed_are_held_at_a_time():
    split, model = toy(2)
    held = []
    model.score = lambda state, candidates=None: held.append(len(state["row"])) or Table.score(model, state, candidates)
    ranks(model, split, max_scores=120)
    assert max(held) == 3


def test_a_constant_score_is_the_worst_model():
    split, model = toy(3)
    split = replace(split, seen=histories([[]] * len(split.targets), 40))
    found = ranks(Table(torch.zeros_like(model.table)), split)
    assert (found.full == 39).all()


def test_the_target_is_never_masked_even_when_it_was_met_before():
    split = Split(
        train=histories([[1, 2]], 5),
        device=histories([[1, 2]], 5),
        seen=histories([[1, 2]], 5),
        targets=np.array([2]),
        negatives=None,
        rule="toy",
    )
    model = Table(torch.tensor([[0.0, 9.0, 5.0, 7.0, 1.0]]))
    assert ranks(model, split).full.tolist() == [1]  # item 1 is masked, item 3 is before, 0 and 4 are behind
    assert ranks(model, split).sampled is None
    assert "sampled-99" not in evaluate(model, split)


def test_a_model_may_score_minus_infinity_but_not_nan():
    split, model = toy(4)
    model.table[:, 5] = -torch.inf
    model.table[:, 9:] = -torch.inf
    full, _, listed = slow_ranks(model, split)
    found = ranks(model, split)
    assert found.full.tolist() == full
    assert set(found.listed.nonzero().squeeze(1).tolist()) == listed
    model.table[:, 5] = torch.nan
    with pytest.raises(FedrecError, match="model 'table': NaN"):
        ranks(model, split)


def test_nobody_to_rank_is_an_error():
    split, model = toy(5)
    with pytest.raises(InputError, match="held-out"):
        ranks(model, replace(split, targets=np.full_like(split.targets, -1)))


def test_evaluate_reports_every_protocol_and_its_rule():
    split, model = toy(6)
    report = evaluate(model, split, order_free=True)
    full, sampled, listed = slow_ranks(model, split, order_free=True)
    assert set(report["full"]) == {*FULL, "coverage@10"}
    assert report["full"]["hr@10"] == pytest.approx(np.mean([r < 10 for r in full]))
    assert report["full"]["coverage@10"] == pytest.approx(len(listed) / 40)
    assert report["sampled-99"]["hr@10"] == pytest.approx(np.mean([r < 10 for r in sampled]))
    assert report["rule"] == f"toy; {RULE}; the device ignores the order of its events"
    assert report["users"] == len(full)


def test_ranking_many_users_counts_them():
    split, model = toy(6)
    seen: list[Step] = []
    with listening(seen.append):
        found = ranks(model, split, max_scores=5 * split.device.n_items)
    users = len(found.users)
    assert [each.done for each in seen if not each.ended] == [*range(0, users, 5), users]
    assert seen[-1] == Step("ranking users", users, users, ended=True)


def test_some_users_only():
    split, model = toy(7)
    every = ranks(model, split)
    some = ranks(model, split, users=every.users[[2, 0]])
    assert some.users.tolist() == every.users[[2, 0]].tolist()
    assert some.full.tolist() == every.full[[2, 0]].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=50), st.integers(1, 120))
def test_metrics_of_one_item_a_user_equal_loops(ranked, k):
    names = tuple(f"{kind}@{k}" for kind in metrics.AT_K)
    found = metrics.measure(Placed.one(torch.tensor(ranked)), names)
    hits = [r for r in ranked if r < k]
    assert found[f"hr@{k}"] == pytest.approx(len(hits) / len(ranked))
    assert found[f"recall@{k}"] == found[f"hr@{k}"]
    assert found[f"precision@{k}"] == found[f"hr@{k}"] / k
    assert found[f"ndcg@{k}"] == pytest.approx(sum(1 / math.log2(r + 2) for r in hits) / len(ranked))
    assert found[f"mrr@{k}"] == pytest.approx(sum(1 / (r + 1) for r in hits) / len(ranked))
    assert found[f"map@{k}"] == found[f"mrr@{k}"]
    assert found[f"f1@{k}"] == pytest.approx(2 * len(hits) / (k + 1) / len(ranked))


def test_metrics_by_name():
    found = Placed.one(torch.tensor([0, 4, 30]))
    assert metrics.measure(found, ("hr@10", "mrr@1")) == {"hr@10": 2 / 3, "mrr@1": 1 / 3}
    with pytest.raises(InputError, match="Did you mean 'ndcg'"):
        metrics.measure(found, ("ndgc@10",))
    with pytest.raises(InputError, match="cut-off of at least"):
        metrics.measure(found, ("hr@0",))
    with pytest.raises(InputError, match="no cut-off"):
        metrics.measure(found, ("auc@10",))
    with pytest.raises(InputError, match="full ranking"):
        metrics.measure(found, ("auc",))


@pytest.mark.parametrize("max_scores", [1, 10**6])
def test_the_newest_event_is_ranked_by_a_model_of_the_rest(max_scores):
    rng = np.random.default_rng(0)
    rows = [[], [3], [3, 3], [4, 1, 7], *(rng.integers(0, 15, size=n).tolist() for n in (2, 5, 9))]
    users = histories(rows, 15).batch(np.arange(len(rows)), seed=0)
    model = Table(torch.from_numpy(rng.integers(0, 4, size=(5, 15))).float())
    expected = []
    for row in rows:
        if len(row) < 2:
            expected.append(-1)
            continue
        scores = model.table[(sum(row[:-1]) + 1) % 5].tolist()
        others = [i for i in range(15) if i != row[-1] and i not in row[:-1]]
        expected.append(sum(scores[i] >= scores[row[-1]] for i in others))
    assert rank_newest(model, users, max_scores).tolist() == expected
