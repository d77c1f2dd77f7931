"""A device whose events are in a store follows the rules of `[data.cleaning]`, each on its own events alone."""

import time
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.consent.policy import Policy
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.participation import device_spec
from fedrec_client.participation.device_spec import Wanted
from fedrec_client.participation.store_mark import DAY, StoreMark
from fedrec_client.participation.stored_user import StoredUser

from fedrec.algorithms.discover import algorithm
from fedrec.data.datasets import DataConfig
from fedrec.data.histories import Histories
from fedrec.data.local_rules import CleaningConfig, LocalRules
from fedrec.federation.data_request import DataRequest
from fedrec.federation.spec import RunSpec
from fedrec.ondevice.cleaning import Cleaning
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import HeldIds
from fedrec.wire import WireError

RULES: list[dict[str, object]] = [
    {"burst": 2, "burst_seconds": 1.5},
    {"scale": (1, 5)},
    {"impute": "own-mean"},
    {"scale": (1, 5), "normalise": "centre"},
    {"scale": (1, 5), "normalise": "standard", "impute": "own-mean", "burst": 3},
]


def described(cleaning: CleaningConfig | None) -> str:
    values = {
        "algorithm": "popularity",
        "settings": algorithm("popularity").Config().model_dump(mode="json"),
        "data": DataRequest(data=DataConfig(name="nodes", min_rating=2, cleaning=cleaning), seed=1).text(),
        "catalogue": "0" * 64,
        **{"users": 1000, "expected_cohort": 10.0, "mu": 1.0, "seed": 1},
    }
    return RunSpec(**values).text()


def cleaned(rules: dict[str, object], history: History) -> History:
    """By the table as a run's description has it."""
    found = device_spec.parse(described(CleaningConfig(**rules))).wanted.cleaning  # type: ignore[arg-type]
    assert found is not None
    return found(history, 5)


def histories(count: int) -> list[History]:
    draw, found = np.random.default_rng(count), [History(), History(np.array([4]))]
    for events in draw.integers(0, 12, count):
        ratings = draw.choice([np.nan, 0.0, 1.0, 3.0, 4.5, 5.0, 9.0], events).astype(np.float32)
        times = draw.choice([np.nan, 1.0, 2.0, 2.5, 3.0, 9.0], events)
        items = draw.permutation(20)[:events]
        found.append(History(items, None if events % 4 == 0 else ratings, times=None if events % 3 == 0 else times))
    return found


@pytest.mark.parametrize("rules", RULES)
def test_a_device_cleans_as_a_simulation_does(rules: dict[str, object]) -> None:
    for history in histories(40):
        offsets = np.array([0, len(history)])
        one = Histories(offsets, history.items.astype(np.int32), 20, history.ratings, times=history.times)
        expected = LocalRules(CleaningConfig(**rules))(one, 1)  # type: ignore[arg-type]
        found = cleaned(rules, history)
        assert found.items.tolist() == expected.items.tolist()
        for own, other in ((found.ratings, expected.ratings), (found.times, expected.times)):
            assert (own is None) == (other is None)
            if own is not None:
                np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("augment", ["crop", "mask"])
def test_a_drawn_part_follows_the_device_own_key(augment: str) -> None:
    rule, history = Cleaning(augment=augment, keep=0.5), History(np.arange(60))
    drawn = [rule(history, key).items.tolist() for key in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(5 < len(each) < 55 and each == sorted(set(each)) for each in drawn)
    if augment == "crop":
        assert drawn[0] == list(range(drawn[0][0], drawn[0][0] + 30))
    assert len(rule(History(), 1)) == 0


def test_a_run_without_rules_names_none() -> None:
    assert device_spec.parse(described(None)).wanted == Wanted(min_rating=2)


def test_a_rule_that_needs_more_than_the_persons_events_is_refused() -> None:
    with pytest.raises(WireError, match="not one that this device reads"):
        device_spec.parse(described(CleaningConfig(impute="item-means", item_means=Path("means.csv"))))
    for hostile in (
        {"burst": 0},
        {"burst": True},
        {"keep": 1.5},
        {"keep": "x"},
        {"scale": [5, 1]},
        {"scale": [1]},
        {"scale": [1, float("inf")]},
        {"normalise": "centre"},
        {"augment": "others"},
        {"more": 1},
    ):
        with pytest.raises((ValueError, TypeError)):
            Cleaning.of(hostile)


def test_the_events_of_a_store_are_cleaned_before_the_newest_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir(mode=0o700)
    with EdgeClient.open(folder, KeyFile(folder / "events.key")) as client:
        StoreMark(folder, client._store).renew(time.time() - 9 * DAY)
        client.record_all([Event("1", "rating", 1.0, 4.0), Event("2", "rating", 2.0, 9.0), Event("3", "like", 3.0)])
    user, ids = StoredUser(DeviceFolder(folder)), HeldIds([str(item) for item in range(9)])
    on_the_scale = Cleaning(scale=(1, 5))
    for wanted, expected in (
        (Wanted(), [1, 2, 3]),
        (Wanted(cleaning=on_the_scale), [1, 3]),
        (Wanted(most_events=2, cleaning=on_the_scale), [1, 3]),
    ):
        assert user.history(ids, wanted, Policy())[0].items.tolist() == expected
