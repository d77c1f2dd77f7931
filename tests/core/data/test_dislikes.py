"""Dislikes and repeated events: counted and said, masked, drawn as negatives; kept and recommended again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.algorithms.popularity import Popularity, PopularityModel
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.splits import split
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.run.scenario import checked
from fedrec.settings import parse
from fedrec.towers.examples import hold_out

ITEMS = 30
DISLIKED = {0: [20, 21], 1: [25], 2: []}


def log(folder: Path, low: float = -1) -> Path:
    rows = [f"{user},{(3 * user + step) % 10},5,{step}" for user in range(3) for step in range(6)]
    rows += [f"{user},{item},{low},9" for user, items in DISLIKED.items() for item in items]
    file = folder / "log.csv"
    file.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    (folder / "items.csv").write_text("item_id\n" + "\n".join(map(str, range(ITEMS))) + "\n")
    return file


def read(file: Path, **settings: object) -> Dataset:
    values = {"path": file, "catalogue": file.with_name("items.csv"), **settings}
    return load(parse(DataConfig, values, "test"), None, seed=0)


NEGATIVES: dict[str, object] = {"min_rating": 0, "mask_dropped": True, "dropped_as_negatives": True}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "3 of 21 events are rated below 0 and count as likes; data.min_rating=0 drops them as dislikes"),
        ({"min_rating": 0}, "3 of 21 events are below data.min_rating = 0: dislikes, dropped"),
        ({"min_rating": 0, "mask_dropped": True}, "3 of 21 events are below data.min_rating = 0: dislikes, masked in"),
        (NEGATIVES, "dislikes, drawn as negatives and masked"),
    ],
)
def test_dislikes_are_said(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    assert said in str(read(log(tmp_path), **settings).report["dislikes"])
    assert "dislikes" not in read(log(tmp_path, low=5), **settings).report


def batches(dataset: Dataset) -> UserBatch:
    made = split(dataset, "leave-one-out", "test", 0)
    return made.train.batch(np.arange(len(made.train)), seed=3)


def test_every_other_negative_is_a_dislike_of_that_user(tmp_path: Path) -> None:
    users = batches(read(log(tmp_path), **NEGATIVES))
    drawn = users.negatives(400, stream=5)
    for row, items in DISLIKED.items():
        odd, even = drawn[row, 1::2].tolist(), drawn[row, ::2].tolist()
        known = set(users.items[users.owners == row].tolist())
        assert not known & {*odd, *even}
        assert len(set(even)) > 15
        if items:
            assert set(odd) == set(items)
            assert min(odd.count(item) for item in items) > 200 / len(items) / 2
        else:
            assert len(set(odd)) > 15
    plain = batches(read(log(tmp_path), min_rating=0, mask_dropped=True)).negatives(400, stream=5)
    assert torch.equal(plain[:, ::2], drawn[:, ::2])
    assert torch.equal(plain[2], drawn[2])


def test_a_users_negatives_are_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    dataset = read(log(tmp_path), **NEGATIVES)
    users, train = batches(dataset), split(dataset, "leave-one-out", "test", 0).train
    whole = users.negatives(20, stream=5)
    for row in range(3):
        alone = train.batch(np.array([row]), seed=3)
        for part in (alone, users.slice(row, row + 1), users.take(torch.tensor([row]))):
            assert torch.equal(part.negatives(20, stream=5)[0], whole[row])
    assert users.held_bytes > batches(read(log(tmp_path), min_rating=0)).held_bytes


def test_the_examples_of_towers_hold_dislikes(tmp_path: Path) -> None:
    users = batches(read(log(tmp_path), **NEGATIVES))
    _, targets = hold_out(users, 2, 10, "random", 0)
    assert set(DISLIKED[0]) & set(targets.items[0, :, 1:].flatten().tolist())


def test_a_device_recommends_no_dislike(tmp_path: Path) -> None:
    users = batches(read(log(tmp_path), **NEGATIVES))
    model = PopularityModel(torch.arange(ITEMS).float())
    for seen in (False, True):
        items, _ = model.recommend(users, ITEMS, seen=seen)
        for row, low in DISLIKED.items():
            assert not set(low) & set(items[row].tolist())
            assert len(set(items[row].tolist()) - {-1}) == ITEMS - len(low) - (0 if seen else int(users.lengths[row]))


def test_a_dislike_is_never_in_that_users_list(tmp_path: Path) -> None:
    dataset = read(log(tmp_path), **NEGATIVES)
    made = split(dataset, "leave-one-out", "test", 0)
    for row, items in DISLIKED.items():
        assert set(items) <= set(made.seen.row(row).tolist())
    assert made.train.items.max() < 10
    assert "every other training negative is one of these" in made.rule


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropped_as_negatives": True, "min_rating": 0}, "set data.mask_dropped=true too"),
        ({"dropped_as_negatives": True, "mask_dropped": True}, "set data.min_rating too"),
    ],
)
def test_settings_that_lack_another_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(log(tmp_path), **settings)


def test_an_algorithm_without_negatives_refuses_them(tmp_path: Path) -> None:
    values = {"data": {"path": str(log(tmp_path)), **NEGATIVES}, "algorithm": {"name": "als"}}
    with pytest.raises(InputError, match=r"'als' draws no negatives; leave data.dropped_as_negatives out"):
        checked(values, "mine")
    checked(values | {"algorithm": {"name": "fedncf"}}, "mine")


REPEATED = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{item},{step}\n" for user in range(4) for step, item in enumerate([user, 5, user, 6, user])
)


def repeated(folder: Path, **settings: object) -> Dataset:
    file = folder / "log.csv"
    file.write_text(REPEATED)
    return load(parse(DataConfig, {"path": file, **settings}, "test"), None, seed=0)


def test_repeats_are_dropped_or_kept(tmp_path: Path) -> None:
    first, keep = repeated(tmp_path), repeated(tmp_path, repeats="keep")
    assert first.report["duplicates"] == keep.report["repeats"] == 8
    assert first.histories.lengths.tolist() == [3] * 4
    assert keep.histories.lengths.tolist() == [5] * 4
    assert [keep.catalogue.ids[item] for item in keep.histories.row(1)] == ["1", "5", "1", "6", "1"]


@pytest.mark.parametrize(("kind", "known"), [("leave-one-out", 4), ("leave-two-out", 4)])
def test_an_item_may_be_recommended_again(tmp_path: Path, kind: str, known: int) -> None:
    keep = repeated(tmp_path, repeats="keep")
    made = split(keep, kind, "test", 0)
    assert made.device.lengths.tolist() == [known] * 4
    assert [keep.catalogue.ids[item] for item in made.targets] == ["0", "1", "2", "3"]
    assert len(made.seen.items) == 0
    assert made.negatives is None
    assert "may consume an item again" in made.rule
    assert "masked, are" not in made.rule
    assert "masked: training" not in made.rule
    others = split(repeated(tmp_path), kind, "test", 0)
    assert len(others.seen.items)


@pytest.mark.parametrize("kind", ["ratio", "k-fold", "temporal", "user-holdout", "given"])
def test_splits_of_sets_of_items_refuse_repeats(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"data\.repeats = 'keep': not for the split"):
        split(repeated(tmp_path, repeats="keep"), kind, "test", 0)


def test_private_looks_refuse_repeats() -> None:
    values = {"data": {"repeats": "keep"}, "algorithm": {"name": Popularity.name}}
    with pytest.raises(InputError, match=r"set privacy\.evaluation_share=0"):
        checked(values | {"privacy": {"epsilon": 3.0, "evaluation_share": 0.1}}, "mine")
    checked(values | {"privacy": {"epsilon": 3.0, "evaluation_share": 0.0}}, "mine")
