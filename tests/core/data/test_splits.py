"""Splits: what is held out, what is known, what is masked; and that nothing of the future leaks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.histories import Histories
from fedrec.data.splits import NEGATIVES, Split, split
from fedrec.errors import InputError

N_ITEMS = 130
rows_of_items = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=9, unique=True), min_size=1, max_size=6).filter(
    lambda rows: max(map(len, rows)) >= 3
)


def dataset(rows: list[list[int]], n_items: int = N_ITEMS, **fields: object) -> Dataset:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    catalogue = Catalogue(tuple(map(str, range(n_items))))
    made = Dataset("toy", catalogue, Histories(offsets, items, n_items), None, {})
    return replace(made, **fields)


def rows_of(histories: Histories) -> list[list[int]]:
    return [histories.row(user).tolist() for user in range(len(histories))]


@settings(max_examples=60)
@given(rows_of_items, st.sampled_from(["test", "validation"]))
def test_leave_one_out(rows: list[list[int]], on: str) -> None:
    made = split(dataset(rows), "leave-one-out", on, 0)  # type: ignore[arg-type]
    known = rows if on == "test" else [row[:-1] for row in rows]
    assert made.targets.tolist() == [row[-1] if len(row) > 1 else -1 for row in known]
    train = [row[:-1] if len(row) > 1 else row for row in known]
    assert rows_of(made.train) == rows_of(made.device) == rows_of(made.seen) == train
    assert made.negatives is not None
    assert made.negatives.shape == (len(rows), NEGATIVES)
    for row, negatives in zip(known, made.negatives.tolist(), strict=True):
        assert len(set(negatives)) == NEGATIVES
        assert not set(negatives) & set(row)


@settings(max_examples=60)
@given(rows_of_items)
def test_leave_two_out(rows: list[list[int]]) -> None:
    test, validation = (split(dataset(rows), "leave-two-out", on, 0) for on in ("test", "validation"))
    long = [len(row) >= 3 for row in rows]
    assert test.targets.tolist() == [row[-1] if ok else -1 for row, ok in zip(rows, long, strict=True)]
    assert validation.targets.tolist() == [row[-2] if ok else -1 for row, ok in zip(rows, long, strict=True)]
    train = [row[:-2] if ok else row for row, ok in zip(rows, long, strict=True)]
    assert rows_of(test.train) == rows_of(validation.train) == rows_of(validation.device) == train
    assert (
        rows_of(test.device)
        == rows_of(test.seen)
        == [row[:-1] if ok else row for row, ok in zip(rows, long, strict=True)]
    )
    assert test.negatives is None
    assert ("too short" in test.rule) == (not all(long))


def test_ncf_takes_the_published_items_out() -> None:
    negatives = np.tile(np.arange(20, 20 + NEGATIVES), (2, 1))
    toy = dataset([[3, 1, 2], [4, 5, 6]], fixed_test=(np.array([1, 6]), negatives))
    test, validation = split(toy, "ncf", "test", 0), split(toy, "ncf", "validation", 0)
    assert rows_of(test.train) == rows_of(test.seen) == [[3, 2], [4, 5]]
    assert test.targets.tolist() == [1, 6]
    assert test.negatives is negatives
    assert validation.targets.tolist() == [2, 5]
    assert rows_of(validation.train) == [[3], [4]]
    with pytest.raises(InputError, match="leave-one-out"):
        split(dataset([[1, 2, 3]]), "ncf", "test", 0)


def test_a_split_that_the_source_came_with() -> None:
    toy = dataset([[1, 2, 3, 4, 5], [6, 7, 8]], parts=np.array([0, 1, 2, 2, 0, 0, 1, 1], dtype=np.uint8))
    test, validation = split(toy, "given", "test", 0), split(toy, "given", "validation", 0)
    assert rows_of(test.train) == [[1, 2, 5], [6, 7, 8]]
    assert test.targets[0] in (3, 4)
    assert test.targets[1] == -1
    assert rows_of(test.seen) == [[item for item in (1, 2, 3, 4, 5) if item != test.targets[0]], [6, 7, 8]]
    assert rows_of(validation.train) == [[1, 5], [6]]
    assert validation.targets[0] == 2
    assert not set(rows_of(validation.seen)[0]) & {2, 3, 4}
    chosen = {int(split(toy, "given", "test", seed).targets[0]) for seed in range(20)}
    assert chosen == {3, 4}
    for kind in ("given", "given-all"):
        with pytest.raises(InputError, match="without a split"):
            split(dataset([[1, 2, 3]]), kind, "test", 0)


def test_every_item_of_a_split_that_the_source_came_with() -> None:
    parts = np.array([0, 1, 2, 2, 0, 0, 1, 1, 2], dtype=np.uint8)
    toy = dataset([[1, 2, 3, 4, 5], [6, 7, 8], [9]], parts=parts)
    test, validation = split(toy, "given-all", "test", 0), split(toy, "given-all", "validation", 0)
    assert test.many is not None
    assert validation.many is not None
    assert rows_of(test.many) == [[3, 4], [], []]  # the last one has nothing to rank from
    assert rows_of(test.device) == rows_of(test.seen) == [[1, 2, 5], [6, 7, 8], []]
    assert rows_of(validation.many) == [[2], [7, 8], []]
    assert rows_of(validation.device) == [[1, 5], [6], []]
    assert test.targets.tolist() == [3, -1, -1]


def test_devices_that_forget_the_order_get_the_same_question() -> None:
    toy = load(DataConfig(users=200, items=300), None, seed=4)
    blind = load(DataConfig(users=200, items=300, ordered=False), None, seed=4)
    with_order, without = (split(data, "leave-one-out", "test", 4) for data in (toy, blind))
    assert np.array_equal(with_order.targets, without.targets)
    assert np.array_equal(with_order.negatives, without.negatives)  # type: ignore[arg-type]
    assert not without.train.ordered
    assert without.train.times is None
    assert rows_of(without.train) != rows_of(with_order.train)
    assert [sorted(row) for row in rows_of(without.train)] == [sorted(row) for row in rows_of(with_order.train)]
    assert "forget the order" in without.rule
    # The position of an item in a row reveals neither its time nor the item.
    for told in (with_order.train.positions_from_end(), with_order.train.items):
        shuffled = without.train.permuted(np.argsort(without.train.owners, kind="stable"))
        plain = dict(zip(zip(with_order.train.owners, with_order.train.items, strict=True), told.tolist(), strict=True))
        values = [plain[pair] for pair in zip(shuffled.owners, shuffled.items, strict=True)]
        assert abs(np.corrcoef(values, shuffled.positions_from_end() / shuffled.lengths[shuffled.owners])[0, 1]) < 0.05


def test_sampled_negatives_are_uniform_outside_the_history() -> None:
    rows = [[0, 1, 2, 3, 4]] * 2000
    made = split(dataset(rows, n_items=N_ITEMS), "leave-one-out", "test", 0)
    assert made.negatives is not None
    counts = np.bincount(made.negatives.flatten(), minlength=N_ITEMS)
    assert counts[:5].sum() == 0
    # Without replacement the counts spread less than multinomial ones: by (125 - 99) / 124.
    statistic = chisquare(counts[5:]).statistic / ((125 - 99) / 124)
    assert 70 < statistic < 200  # 124 degrees of freedom


def test_a_split_repeats_and_depends_on_the_seed() -> None:
    toy = load(DataConfig(users=50, items=300), None, seed=1)
    one, same, other = (split(toy, "leave-one-out", "test", seed).negatives for seed in (1, 1, 2))
    assert np.array_equal(one, same)  # type: ignore[arg-type]
    assert not np.array_equal(one, other)  # type: ignore[arg-type]


def test_a_small_catalogue_has_no_sampled_protocol() -> None:
    made: Split = split(dataset([[1, 2, 3]], n_items=50), "leave-one-out", "test", 0)
    assert made.negatives is None
    assert "no sampled negatives" in made.rule


def test_unknown_splits_and_empty_ones_are_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'leave-one-out'"):
        split(dataset([[1, 2, 3]]), "leave-on-out", "test", 0)
    with pytest.raises(InputError, match="'test' or 'validation'"):
        split(dataset([[1, 2, 3]]), "leave-one-out", "train", 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no user has enough events"):
        split(dataset([[1], [2]]), "leave-one-out", "test", 0)


RATED = "user_id,item_id,rating,timestamp\n" + "\n".join(
    f"{user},{item},{1 if item in low else 5},{time}"
    for user, items, low in [("ann", "xyzwv", "yw"), ("bob", "yxvuz", "xq"), ("cem", "qxyz", "q")]
    for time, item in enumerate(items)
)


def test_what_was_rated_too_low_is_masked_and_not_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(RATED)
    plain = load(DataConfig(path=file, min_rating=3), None, 0)
    masked = load(DataConfig(path=file, min_rating=3, mask_dropped=True), None, 0)
    before, after = (split(one, "leave-two-out", "test", 0) for one in (plain, masked))
    name = masked.catalogue.ids
    assert not {"q", "w"} & set(name)  # an item that everybody rated too low is in no catalogue
    for part in ("train", "device"):
        assert rows_of(getattr(after, part)) == rows_of(getattr(before, part))
    assert after.targets.tolist() == before.targets.tolist()
    assert [{name[item] for item in row} for row in rows_of(before.seen)] == [set("xz"), set("yvu"), set("xy")]
    assert [{name[item] for item in row} for row in rows_of(after.seen)] == [set("xzy"), set("yvux"), set("xy")]
    assert "masked, too" in after.rule
    assert "masked, too" not in before.rule


def test_masking_needs_a_threshold_and_all_users_ranked(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(RATED)
    with pytest.raises(InputError, match=r"set data\.min_rating too"):
        load(DataConfig(path=file, mask_dropped=True), None, 0)
    many = [line for copy in range(20) for line in RATED.replace("\n", f"\n{copy}").splitlines()[1:]]
    file.write_text("\n".join([RATED.splitlines()[0], *many]))
    half = load(DataConfig(path=file, min_rating=3, mask_dropped=True, hold_out={"share": 0.3}), None, 0)
    with pytest.raises(InputError, match="ranks some users only"):
        split(half, "user-holdout", "test", 0)


@given(rows_of_items, rows_of_items)
def test_joined_histories_hold_the_events_of_both(one: list[list[int]], other: list[list[int]]) -> None:
    users = min(len(one), len(other))
    a, b = (dataset(rows).histories.select(np.arange(users)) for rows in (one, other))
    assert [sorted(row) for row in rows_of(a.joined(b))] == [
        sorted(x + y) for x, y in zip(rows_of(a), rows_of(b), strict=True)
    ]
