"""Compressed rows against slow, obvious lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fedrec.data.histories import Histories
from fedrec.data.users import UserBatch
from fedrec.errors import InputError

N_ITEMS = 12
Rows = list[list[int]]
rows_of_items = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=N_ITEMS, unique=True), min_size=1, max_size=8)


def histories(rows: Rows, n_items: int = N_ITEMS) -> Histories:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    events = np.arange(len(items))
    return Histories(offsets, items, n_items, ratings=events.astype(np.float32), times=events.astype(np.int64))


def batch(rows: Rows, seed: int = 0) -> UserBatch:
    return histories(rows).batch(np.arange(len(rows)), seed)


def listed(users: UserBatch | Histories) -> Rows:
    lengths = users.lengths.tolist()
    assert sum(lengths) == len(users.items)
    return [part.tolist() for part in np.split(np.asarray(users.items), np.cumsum(lengths)[:-1])]


def rated(users: UserBatch | Histories) -> set[tuple[int, float]]:
    assert users.ratings is not None
    return set(zip(np.asarray(users.items).tolist(), np.asarray(users.ratings).tolist(), strict=True))


@given(rows_of_items, st.data())
def test_select_and_take_give_the_rows_asked_for(rows: Rows, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    oracle = [rows[user] for user in wanted]
    chosen = np.array(wanted, dtype=np.int64)
    everyone = histories(rows)
    selected, taken = everyone.select(chosen), batch(rows).take(torch.from_numpy(chosen))
    assert (listed(selected) if wanted else []) == oracle
    assert (listed(taken) if wanted else []) == oracle
    assert rated(selected) <= rated(everyone)
    assert rated(taken) <= rated(everyone)
    assert torch.equal(taken.keys, batch(rows).keys[chosen])


@given(rows_of_items, st.data())
def test_keep_drops_events_and_no_user(rows: Rows, data: st.DataObject) -> None:
    mask = [[data.draw(st.booleans()) for _ in row] for row in rows]
    kept = histories(rows).keep(np.array([flag for row in mask for flag in row], dtype=bool))
    assert listed(kept) == [
        [item for item, flag in zip(*pair, strict=True) if flag] for pair in zip(rows, mask, strict=True)
    ]
    assert rated(kept) <= rated(histories(rows))


@given(rows_of_items, st.data())
def test_the_newest_end_of_a_history(rows: Rows, data: st.DataObject) -> None:
    users = batch(rows)
    counts = [data.draw(st.integers(0, N_ITEMS + 2)) for _ in rows]
    shorter = users.without_newest(torch.tensor(counts))
    assert listed(shorter) == [row[: max(0, len(row) - count)] for row, count in zip(rows, counts, strict=True)]
    assert rated(shorter) <= rated(users)
    for lag in range(N_ITEMS + 1):
        assert users.newest(lag).tolist() == [row[-1 - lag] if len(row) > lag else -1 for row in rows]
    lags = [lag for row in rows for lag in reversed(range(len(row)))]
    assert users.lags.tolist() == histories(rows).positions_from_end().tolist() == lags


@given(rows_of_items, st.integers(0, 8), st.integers(0, 12))
def test_slice(rows: Rows, start: int, length: int) -> None:
    start = min(start, len(rows))
    part = batch(rows).slice(start, start + length)
    assert (listed(part) if len(part) else []) == rows[start : start + length]
    assert torch.equal(part.keys, batch(rows).keys[start : start + length])


@given(rows_of_items, st.integers(0, 3))
def test_a_random_order_keeps_rows_and_forgets_theirs(rows: Rows, seed: int) -> None:
    one = histories(rows)
    other = histories([row[::-1] for row in rows])
    shuffled = one.permuted(one.random_order(seed))
    assert [sorted(row) for row in listed(shuffled)] == [sorted(row) for row in rows]
    assert rated(shuffled) == rated(one)
    assert listed(shuffled) == listed(other.permuted(other.random_order(seed)))


@settings(max_examples=50)
@given(rows_of_items, st.integers(0, 5), st.integers(0, 3))
def test_negatives_lie_outside_the_history_and_do_not_depend_on_the_batch(rows: Rows, seed: int, stream: int) -> None:
    users = batch(rows, seed)
    drawn = users.negatives(20, stream)
    for row, negatives in zip(rows, drawn.tolist(), strict=True):
        assert all(0 <= item < N_ITEMS for item in negatives)
        assert len(row) == N_ITEMS or not set(row) & set(negatives)
    for user in range(len(rows)):
        assert torch.equal(users.take(torch.tensor([user])).negatives(20, stream)[0], drawn[user])


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=5, unique=True), min_size=1, max_size=8),
    st.integers(1, N_ITEMS - 5),
)
def test_distinct_negatives_are_distinct_and_outside(rows: Rows, count: int) -> None:
    for row, negatives in zip(rows, batch(rows).distinct_negatives(count, 0).tolist(), strict=True):
        assert len(set(negatives)) == count
        assert set(negatives) <= set(range(N_ITEMS)) - set(row)


@pytest.mark.parametrize("distinct", [False, True])
def test_negatives_are_uniform(distinct: bool) -> None:
    row, users = [0, 3, 4, 11], 6000
    many = batch([row] * users, seed=3)
    drawn = many.distinct_negatives(3, 1) if distinct else many.negatives(3, 1)
    outside = [item for item in range(N_ITEMS) if item not in row]
    counts = np.bincount(drawn.flatten().numpy(), minlength=N_ITEMS)
    assert counts[row].sum() == 0
    assert chisquare(counts[outside]).pvalue > 1e-4
    leaning = counts[outside] + np.array([200, -200, 0, 0, 0, 0, 0, 0])  # the test must see a lean of a tenth
    assert chisquare(leaning).pvalue < 1e-4


def test_distinct_pairs_of_negatives_are_uniform() -> None:
    drawn = batch([[1, 2, 3, 4, 5, 6]] * 9000, seed=5).distinct_negatives(2, 0).sort(dim=1).values
    pairs = (drawn[:, 0] * N_ITEMS + drawn[:, 1]).unique(return_counts=True)[1]
    assert len(pairs) == 15
    assert chisquare(pairs.numpy()).pvalue > 1e-4


def test_an_item_outside_the_catalogue_is_refused() -> None:
    with pytest.raises(InputError, match="catalogue lacks"):
        histories([[N_ITEMS]])
    with pytest.raises(InputError, match="offsets"):
        Histories(np.array([0, 2]), np.array([1], dtype=np.int32), N_ITEMS)
