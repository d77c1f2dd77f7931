"""A user who leaves the log does not change the data of others: an assumption of add-or-remove-one privacy."""

from pathlib import Path

import numpy as np
import pytest

from fedrec.data.datasets import DataConfig, load
from fedrec.data.splits import Split, split
from fedrec.data.users import UserBatch

ITEMS = 150
NUMBERS = tuple(str(user) for user in range(3, 33))
TEXTS = ("007", "-4", "12", "9" * 30, "ann", "bob", "zoë", "\u0661")


def questions(folder: Path, users: tuple[str, ...], times: bool, **settings: object) -> dict[str, tuple]:
    """Each user's split and local randomness, by the id in the log."""
    lines = ["user_id,item_id" + ",timestamp" * times]
    for user in users:
        order = np.random.default_rng(list(user.encode())).permutation(ITEMS)[: 4 + len(user) % 7]
        lines += [f"{user},{item}" + f",{step}" * times for step, item in enumerate(order)]
    (folder / "log.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "items.csv").write_text("item_id\n" + "\n".join(map(str, range(ITEMS))))
    config = {"path": folder / "log.csv", "catalogue": folder / "items.csv", **settings}
    data = load(DataConfig.model_validate(config), None, seed=5)
    made: Split = split(data, "leave-one-out", "test", seed=5)
    assert made.negatives is not None
    places = np.arange(len(users))
    batch: UserBatch = made.train.batch(places, seed=5)
    drawn, keys = batch.negatives(20, stream=1).tolist(), batch.keys.tolist()
    names = sorted(users, key=int) if users[0] == NUMBERS[0] else sorted(users)
    return {
        name: (made.train.row(place).tolist(), made.targets[place], keys[place], drawn[place], list(negatives))
        for place, (name, negatives) in enumerate(zip(names, made.negatives, strict=True))
    }


@pytest.mark.parametrize("users", [NUMBERS, TEXTS], ids=["numbers", "texts"])
@pytest.mark.parametrize(("times", "ordered"), [(True, True), (True, False), (False, True)])
def test_who_leaves_changes_nothing_of_the_others(tmp_path: Path, users, times: bool, ordered: bool) -> None:
    everybody = questions(tmp_path, users, times, ordered=ordered)
    assert len({key for _, _, key, _, _ in everybody.values()}) == len(users)
    for gone in (1, len(users) // 2, len(users) - 1):
        rest = questions(tmp_path, users[:gone] + users[gone + 1 :], times, ordered=ordered)
        del (before := dict(everybody))[users[gone]]
        assert rest == before


def test_ids_that_all_become_numbers_keep_their_randomness(tmp_path: Path) -> None:
    mixed = ("-4", "12", "ann")
    with_text = questions(tmp_path, mixed, True)
    numbers = questions(tmp_path, mixed[:2], True)
    assert numbers == {name: with_text[name] for name in mixed[:2]}
