"""Cold start: new items and new users are nowhere in training, and who they are follows from the seed alone."""

from dataclasses import replace

import numpy as np
import pytest

from fedrec.data.catalogue import Catalogue, Categories
from fedrec.data.cold import WATCHED
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.histories import Histories
from fedrec.data.holdouts import HoldOutConfig
from fedrec.data.new_items import NewItems, only
from fedrec.data.splits import split
from fedrec.errors import InputError

ITEMS, USERS = 60, 80


def toy(seed: int = 0, **hold_out: object) -> Dataset:
    """Users with 15 events each on items with labels."""
    draw = np.random.default_rng(seed)
    items = np.concatenate([draw.permutation(ITEMS)[:15] for _ in range(USERS)]).astype(np.int32)
    member = np.eye(6, dtype=bool)[np.arange(ITEMS) % 6]
    catalogue = Catalogue(
        tuple(f"i{n:03d}" for n in range(ITEMS)), None, (Categories("kind", tuple("abcdef"), member),)
    )
    identities = np.arange(USERS, dtype=np.int64) * 7919
    histories = Histories(np.arange(USERS + 1) * 15, items, ITEMS, identities=identities)
    made = Dataset("toy", catalogue, histories, None, {})
    return replace(made, hold_out=HoldOutConfig.model_validate({"share": 0.25} | hold_out))


@pytest.mark.parametrize("on", ["test", "validation"])
def test_a_cold_item_is_nowhere_in_training(on: str) -> None:
    dataset = toy()
    made = split(dataset, "cold-items", on, 3)  # type: ignore[arg-type]
    new, catalogue = made.new_items, made.training_catalogue(dataset.catalogue)
    assert new is not None
    assert made.train.n_items == len(catalogue) == len(new.trained) < len(new.catalogue) <= ITEMS
    assert not set(catalogue.ids) & {new.catalogue.ids[item] for item in np.flatnonzero(new.new)}
    ranked = made.targets >= 0
    assert ranked.any()
    assert new.new[made.targets[ranked]].all()
    for user in range(USERS):
        ids = [catalogue.ids[item] for item in made.train.row(user)]
        assert ids == [new.catalogue.ids[item] for item in made.device.row(user)]
        whole = [dataset.catalogue.ids[item] for item in dataset.histories.row(user)]
        masked = {new.catalogue.ids[item] for item in made.seen.row(user)}
        target = {new.catalogue.ids[made.targets[user]]} if ranked[user] else set()
        assert masked | target == set(whole) & set(new.catalogue.ids)
        assert not masked & target
        assert [name for name in whole if name in catalogue.ids] == ids


def test_which_items_are_cold_follows_from_seed_and_ids_alone() -> None:
    """An attacker who looks at the choice learns nothing of the events."""
    first, second = (split(toy(events), "cold-items", "test", 3).new_items for events in (0, 1))
    other = split(toy(), "cold-items", "test", 4).new_items
    assert first is not None
    assert second is not None
    assert other is not None
    assert np.array_equal(first.trained, second.trained)
    assert not np.array_equal(first.new, other.new)


def test_items_of_the_test_do_not_exist_in_validation() -> None:
    test, tuning = (split(toy(), "cold-items", on, 3).new_items for on in ("test", "validation"))
    assert test is not None
    assert tuning is not None
    cold = {test.catalogue.ids[item] for item in np.flatnonzero(test.new)}
    assert not cold & set(tuning.catalogue.ids)
    assert len(test.catalogue) == ITEMS


def test_events_of_cold_items_change_nothing_in_training() -> None:
    dataset = toy()
    made = split(dataset, "cold-items", "test", 3)
    assert made.new_items is not None
    cold = np.flatnonzero(made.new_items.new)
    events = dataset.histories.items.copy()
    events[np.isin(events, cold)] = cold[0]  # everybody now adores one cold item
    changed = replace(dataset, histories=replace(dataset.histories, items=events))
    again = split(changed, "cold-items", "test", 3)
    assert np.array_equal(made.train.items, again.train.items)
    assert np.array_equal(made.train.offsets, again.train.offsets)
    assert made.new_items.trained_catalogue.digest == again.training_catalogue(changed.catalogue).digest


def test_a_split_with_a_leak_is_refused() -> None:
    """Training over the whole catalogue could draw cold items as negatives; a device with one could recommend by it."""
    made = split(toy(), "cold-items", "test", 3)
    with pytest.raises(InputError, match="new item is among the training events"):
        replace(made, train=made.device)
    with pytest.raises(InputError, match="or on a device"):
        replace(made, device=made.seen)


@pytest.mark.parametrize("known", [0, 1, 3, 10])
def test_new_users_never_train_and_rank_the_same_items_whatever_they_know(known: int) -> None:
    dataset = toy(known=known)
    made, whole = split(dataset, "cold-users", "test", 3), split(toy(known=10), "cold-users", "test", 3)
    assert np.array_equal(made.targets, whole.targets)
    assert (made.targets >= 0).all()
    assert np.array_equal(made.seen.items, whole.seen.items)
    assert set(made.device.lengths) == {known}
    assert set(made.seen.lengths) == {WATCHED}
    assert made.device.identities is not None
    assert made.train.identities is not None
    assert not set(made.device.identities) & set(made.train.identities)
    for user in range(len(made.device)):
        assert made.device.row(user).tolist() == made.seen.row(user)[WATCHED - known :].tolist()


def test_refusals() -> None:
    plain = replace(toy(), catalogue=Catalogue(toy().catalogue.ids))
    with pytest.raises(InputError, match="public features"):
        split(plain, "cold-items", "test", 0)
    with pytest.raises(InputError, match=r"less than 0\.5"):
        split(toy(share=0.6), "cold-items", "test", 0)
    with pytest.raises(InputError, match="mask_dropped"):
        split(replace(toy(), dropped=toy().histories), "cold-items", "test", 0)
    with pytest.raises(InputError, match="lacks item"):
        NewItems.of(("a", "x"), Catalogue(("a", "b")))
    with pytest.raises(InputError, match="another order"):
        NewItems.of(("b", "a"), Catalogue(("a", "b")))


def test_only_keeps_identities_of_items() -> None:
    dataset = load(DataConfig(users=50, items=30), None, 0)
    kept = only(dataset.histories, np.array([3, 7, 20]))
    assert kept.n_items == 3
    assert dataset.histories.item_identities is not None
    assert kept.item_identities is not None
    assert kept.item_identities.tolist() == dataset.histories.item_identities[[3, 7, 20]].tolist()
