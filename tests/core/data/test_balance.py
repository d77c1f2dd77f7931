"""Balancing is local: it takes from each user by that user's own events and public numbers alone."""

from pathlib import Path

import numpy as np
import pytest

from fedrec.data.balance import Balance, BalanceConfig, balance
from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.splits import split
from fedrec.errors import InputError, PrivacyError

ITEMS = 40


def histories(users: list[int]) -> Histories:
    rows = [np.random.default_rng(user).permutation(ITEMS)[: 5 + user % 30] for user in users]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), ITEMS, identities=np.array(users, dtype=np.int64))


def rows_of(found: Histories) -> list[list[int]]:
    return [found.row(user).tolist() for user in range(len(found))]


def popularity_file(folder: Path, text: str) -> BalanceConfig:
    (folder / "popularity.csv").write_text(text)
    return BalanceConfig(popularity=folder / "popularity.csv", exponent=1.0)


def test_the_newest_events_stay() -> None:
    whole = histories(list(range(50)))
    assert rows_of(Balance(most_events=7)(whole, 1)) == [row[-7:] for row in rows_of(whole)]
    assert rows_of(Balance()(whole, 1)) == rows_of(whole)
    assert Balance().rule == ""


def test_events_of_popular_items_stay_as_often_as_they_should(tmp_path: Path) -> None:
    config = popularity_file(tmp_path, "item_id,popularity\n0,10\n1,20\n2,40\n3,5\n4,10\n")
    made = balance(config, tuple(map(str, range(ITEMS))))
    assert made.keep is not None
    assert made.keep[:6].tolist() == [1, 0.5, 0.25, 1, 1, 1]  # the median, 10, stays; so does what the file lacks
    everybody = np.tile(np.arange(ITEMS, dtype=np.int32), 4000)
    whole = Histories(np.arange(4001) * ITEMS, everybody, ITEMS)
    left = np.bincount(made(whole, 3).items, minlength=ITEMS) / 4000
    assert left[[0, *range(3, ITEMS)]].tolist() == [1] * (ITEMS - 2)
    assert abs(left[1] - 0.5) < 4 * np.sqrt(0.25 / 4000)
    assert abs(left[2] - 0.25) < 4 * np.sqrt(0.1875 / 4000)
    assert "fewer events of popular items" in made.rule


def test_who_leaves_changes_nothing_of_the_others() -> None:
    users = list(range(3, 60))
    made = Balance(most_events=6, keep=np.linspace(0.1, 1, ITEMS))
    everybody = dict(zip(users, rows_of(made(histories(users), 5)), strict=True))
    for gone in (3, 30, 59):
        rest = [user for user in users if user != gone]
        assert dict(zip(rest, rows_of(made(histories(rest), 5)), strict=True)) == {
            user: row for user, row in everybody.items() if user != gone
        }
    assert rows_of(made(histories(users), 6)) != list(everybody.values())


def test_only_training_is_balanced() -> None:
    plain = load(DataConfig(users=60, items=200), None, seed=1)
    capped = load(DataConfig(users=60, items=200, balance=BalanceConfig(most_events=4)), None, seed=1)
    for kind in ("leave-one-out", "ratio", "user-holdout"):
        whole, less = split(plain, kind, "test", 1), split(capped, kind, "test", 1)
        assert less.train.lengths.max() == 4
        assert rows_of(less.train) == [row[-4:] for row in rows_of(whole.train)]
        assert rows_of(less.device) == rows_of(whole.device)
        assert rows_of(less.seen) == rows_of(whole.seen)
        assert np.array_equal(less.targets, whole.targets)
        assert less.rule == f"{whole.rule}; trained on at most 4 events a user"


def test_counts_of_the_log_are_refused_and_so_are_files_that_do_not_fit(tmp_path: Path) -> None:
    ids = ("0", "1")
    with pytest.raises(PrivacyError, match="counts of the log are private") as caught:
        balance(BalanceConfig(popularity=Path("counts")), ids)
    assert "\n" not in str(caught.value)
    for text, message in [
        ("item_id,plays\n0,1\n", "needs a column 'popularity'"),
        ("item_id,popularity\n0,0\n", "above 0"),
        ("item_id,popularity\n0,\n1,3\n", "above 0"),
        ("item_id,popularity\n0,many\n", "above 0"),
        ("item_id,popularity\n7,3\n", "names no item of the catalogue"),
    ]:
        with pytest.raises(InputError, match=message):
            balance(popularity_file(tmp_path, text), ids)
