"""Splits that hold out several items a user: the ranked users and items, and no leak of the future."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.histories import Histories
from fedrec.data.holdouts import KINDS, HoldOutConfig
from fedrec.data.splits import split
from fedrec.errors import InputError

ITEMS = 60
rows_of_items = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12, unique=True), min_size=1, max_size=8)


def dataset(rows: list[list[int]], identities: list[int] | None = None, **hold_out: object) -> Dataset:
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    times = np.concatenate([[], *[np.arange(len(row)) * 10 + 3 * user for user, row in enumerate(rows)]])
    known = None if identities is None else np.array(identities, dtype=np.int64)
    histories = Histories(offsets, items, ITEMS, times=times.astype(np.int64), identities=known)
    made = Dataset("toy", Catalogue(tuple(map(str, range(ITEMS)))), histories, None, {})
    return replace(made, hold_out=HoldOutConfig.model_validate(hold_out))


def rows_of(histories: Histories | None) -> list[list[int]]:
    assert histories is not None
    return [histories.row(user).tolist() for user in range(len(histories))]


@settings(max_examples=60, deadline=None)
@given(rows_of_items, st.sampled_from(sorted(KINDS)), st.booleans(), st.integers(0, 5))
@example([[]], "temporal", True, 0)
def test_what_every_such_split_promises(rows: list[list[int]], kind: str, test: bool, seed: int) -> None:
    try:
        made = split(dataset(rows, share=0.25), kind, "test" if test else "validation", seed)
    except InputError:
        return  # too little data for this split, said in a line: its own test below
    assert made.many is not None
    held, known = rows_of(made.many), rows_of(made.device)
    assert rows_of(made.seen) == known
    assert made.negatives is None
    assert len(held) == len(known) == len(made.targets)
    assert made.targets.tolist() == [row[0] if row else -1 for row in held]
    for mine, theirs in zip(held, known, strict=True):
        assert not set(mine) & set(theirs)
        assert not mine or theirs
        assert any(set(mine) | set(theirs) <= set(row) for row in rows)
    if kind != "user-holdout":
        assert rows_of(made.train) == known


def test_ratio_takes_the_newest_of_each_user() -> None:
    toy = dataset([list(range(10)), [20, 21, 22], [30]], share=0.2)
    test, validation = split(toy, "ratio", "test", 0), split(toy, "ratio", "validation", 0)
    assert rows_of(test.many) == [[8, 9], [22], []]
    assert rows_of(test.train) == [list(range(8)), [20, 21], []]
    assert rows_of(validation.many) == [[6, 7], [21], []]
    assert rows_of(validation.train) == [list(range(6)), [20], []]
    assert "1 users without known or without held-out events, not ranked" in test.rule


def test_temporal_has_one_moment_for_everybody() -> None:
    toy = dataset([[0, 1, 2, 3], [10, 11, 12, 13], [20]], cut=datetime(1970, 1, 1, 0, 0, 20), share=0.4)
    made = split(toy, "temporal", "test", 0)
    assert rows_of(made.device) == [[0, 1], [10, 11], [20]]
    assert rows_of(made.many) == [[2, 3], [12, 13], []]
    assert "1970-01-01 00:00:20 UTC;" in made.rule
    assert "taken from" not in made.rule
    validation = split(toy, "temporal", "validation", 0)
    assert rows_of(validation.device) == [[0], [10], [20]]
    assert rows_of(validation.many) == [[1], [11], []]
    assert "epsilon does not cover" in validation.rule
    for on in ("test", "validation"):
        with pytest.raises(InputError, match="earlier moment"):
            split(replace(toy, hold_out=HoldOutConfig(cut=datetime(1980, 1, 1))), "temporal", on, 0)
        with pytest.raises(InputError, match="later moment"):
            split(replace(toy, hold_out=HoldOutConfig(cut=datetime(1960, 1, 1))), "temporal", on, 0)
    with pytest.raises(InputError, match="needs timestamps"):
        split(replace(toy, histories=replace(toy.histories, times=None)), "temporal", "test", 0)


def test_times_that_are_no_dates_are_told_as_they_are() -> None:
    toy = dataset([[0, 1, 2, 3]], share=0.4)
    assert toy.histories.times is not None
    times = 1_600_000_000_000 + toy.histories.times  # milliseconds
    made = split(replace(toy, histories=replace(toy.histories, times=times)), "temporal", "test", 0)
    assert made.many is not None
    assert made.many.times is not None
    assert f"events since the time {made.many.times.min()}, a moment taken" in made.rule


def test_a_moment_from_the_log_holds_out_about_the_share() -> None:
    toy = load(DataConfig(users=300, items=200, hold_out=HoldOutConfig(share=0.15)), None, seed=1)
    made = split(toy, "temporal", "test", 1)
    assert made.many is not None
    assert toy.histories.times is not None
    assert made.device.times is not None
    assert made.many.times is not None
    held = toy.histories.times >= made.many.times.min()
    assert made.device.times.max() < made.many.times.min()
    assert 0.14 < held.mean() < 0.16


def test_held_out_users_never_train_and_fold_in_half() -> None:
    toy = load(DataConfig(users=400, items=200, hold_out=HoldOutConfig(share=0.2)), None, seed=1)
    test, validation = split(toy, "user-holdout", "test", 1), split(toy, "user-holdout", "validation", 1)
    trained, tested, validated = (set(found.identities) for found in (test.train, test.device, validation.device))  # type: ignore[arg-type]
    assert trained == set(validation.train.identities)  # type: ignore[arg-type]
    assert len(trained) + len(tested) + len(validated) == 400
    assert len(trained | tested | validated) == 400
    assert 50 < len(tested) < 110
    assert test.many is not None
    whole = {int(key): toy.histories.row(user).tolist() for user, key in enumerate(toy.histories.identities)}  # type: ignore[arg-type]
    for user, key in enumerate(test.device.identities):  # type: ignore[arg-type]
        older, newer = test.device.row(user).tolist(), test.many.row(user).tolist()
        assert older + newer == whole[int(key)]
        assert 0 <= len(older) - len(newer) <= 1
    with pytest.raises(InputError, match="somebody must train"):
        split(replace(toy, hold_out=HoldOutConfig(share=0.5)), "user-holdout", "test", 1)
    with pytest.raises(InputError, match="another seed"):
        split(dataset([[1, 2, 3]]), "user-holdout", "test", 1)


def test_folds_cover_every_event_once() -> None:
    toy = load(DataConfig(users=60, items=200), None, seed=2)
    found = []
    for fold in range(4):
        chosen = replace(toy, hold_out=HoldOutConfig(folds=4, fold=fold))
        test, validation = split(chosen, "k-fold", "test", 3), split(chosen, "k-fold", "validation", 3)
        assert test.many is not None
        assert validation.many is not None
        found.append(test.many.owners * 200 + test.many.items)
        assert len(test.many.items) + len(test.device.items) == len(toy.histories.items)
        later = split(replace(toy, hold_out=HoldOutConfig(folds=4, fold=(fold + 1) % 4)), "k-fold", "test", 3)
        assert rows_of(validation.many) == rows_of(later.many)
        assert len(validation.many.items) + len(validation.device.items) == len(test.device.items)
        assert np.ptp(test.many.lengths - toy.histories.lengths // 4) <= 1
    everything = np.sort(toy.histories.owners * 200 + toy.histories.items)
    assert np.array_equal(np.sort(np.concatenate(found)), everything)
    with pytest.raises(InputError, match=r"must be 0\.\.4"):
        split(replace(toy, hold_out=HoldOutConfig(fold=5)), "k-fold", "test", 3)


@pytest.mark.parametrize("kind", ["user-holdout", "ratio", "k-fold"])
def test_who_leaves_changes_nothing_of_the_others(kind: str) -> None:
    rng = np.random.default_rng(5)
    rows = [rng.permutation(ITEMS)[: 6 + user % 9].tolist() for user in range(40)]
    identities = [7 * user - 11 for user in range(40)]

    def questions(gone: int | None) -> dict[int, tuple[list[int], list[int]]]:
        left = [user for user in range(40) if user != gone]
        toy = dataset([rows[user] for user in left], [identities[user] for user in left], share=0.3)
        made = split(toy, kind, "test", 9)
        assert made.device.identities is not None
        who = made.device.identities.tolist()
        return dict(zip(who, zip(rows_of(made.device), rows_of(made.many), strict=True), strict=True))

    everybody = questions(None)
    for gone in range(0, 40, 7):
        rest = {who: question for who, question in everybody.items() if who != identities[gone]}
        assert questions(gone) == rest
