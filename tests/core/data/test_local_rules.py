"""Local rules: outliers, imputation, normalisation and augmentation by a user's own events and public numbers alone."""

from pathlib import Path

import numpy as np
import pytest

from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.local_rules import CleaningConfig, LocalRules, local_rules
from fedrec.data.splits import split
from fedrec.errors import InputError, PrivacyError
from fedrec.evaluation.ratings import mean_errors
from fedrec.federation.data_request import DataRequest, parse_data
from fedrec.settings import parse

ITEMS = 40
RULES = [
    {"burst": 2, "burst_seconds": 5},
    {"scale": (1, 5)},
    {"impute": "own-mean"},
    {"scale": (1, 5), "normalise": "centre"},
    {"scale": (1, 5), "normalise": "standard"},
    {"augment": "crop", "keep": 0.5},
    {"augment": "mask", "keep": 0.5},
    {
        **{"burst": 3, "burst_seconds": 4, "scale": (1, 5), "impute": "own-mean", "normalise": "standard"},
        **{"augment": "mask", "keep": 0.7},
    },
]


def histories(users: list[int]) -> Histories:
    """A function of each user's number: some without events, with bursts, wild ratings, or none known."""
    rows, ratings, times = [], [], []
    for user in users:
        draw, length = np.random.default_rng(user), user % 13
        rows.append(draw.permutation(ITEMS)[:length])
        given = draw.integers(0, 7, length).astype(np.float32)
        given[draw.random(length) < (1.0 if user % 5 == 0 else 0.3)] = np.nan
        ratings.append(given)
        times.append(np.sort(draw.integers(0, 30, length).astype(np.float64)))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items, known = np.concatenate(rows).astype(np.int32), np.concatenate(ratings)
    identities = np.array(users, dtype=np.int64)
    return Histories(offsets, items, ITEMS, known, np.concatenate(times), identities=identities)


def rows_of(found: Histories) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    assert found.ratings is not None
    cut = zip(found.offsets, found.offsets[1:], strict=False)
    return [(tuple(found.items[a:b]), tuple(found.ratings[a:b].astype(str))) for a, b in cut]


@pytest.mark.parametrize("settings", RULES, ids=repr)
def test_adding_or_removing_a_user_changes_nobody_else(settings: dict) -> None:
    rules, users = LocalRules(CleaningConfig(**settings)), list(range(40, 80))
    everybody = dict(zip(users, rows_of(rules(histories(users), 3)), strict=True))
    assert len(everybody) == len(users)
    assert list(everybody.values()) != rows_of(histories(users))
    for gone in (40, 52, 65, 79):
        rest = [user for user in users if user != gone]
        assert rows_of(rules(histories(rest), 3)) == [everybody[user] for user in rest]
    assert rows_of(rules(histories([60]), 3)) == [everybody[60]]  # a phone alone, with the same code
    backwards = rows_of(rules(histories(users[::-1]), 3))
    assert backwards == list(everybody.values())[::-1]


@pytest.mark.parametrize("settings", RULES, ids=repr)
def test_rules_never_add_events(settings: dict) -> None:
    whole = histories(list(range(40, 80)))
    left = LocalRules(CleaningConfig(**settings))(whole, 3)
    assert len(left) == len(whole)
    assert all(set(left.row(user)) <= set(whole.row(user)) for user in range(len(whole)))
    assert (left.lengths <= whole.lengths).all()


def test_bursts_are_those_of_the_slow_count() -> None:
    whole = histories(list(range(40, 120)))
    assert whole.times is not None
    for most, seconds in ((1, 0.0), (2, 5.0), (4, 9.0), (12, 100.0)):
        stays = []
        for user in range(len(whole)):
            times = whole.times[whole.offsets[user] : whole.offsets[user + 1]]
            starts = [t for t in times if ((times >= t) & (times <= t + seconds)).sum() > most]
            stays.append([item for item, t in zip(whole.row(user), times, strict=True)
                          if not any(s <= t <= s + seconds for s in starts)])  # fmt: skip
        found = LocalRules(CleaningConfig(burst=most, burst_seconds=seconds))(whole, 1)
        assert [found.row(user).tolist() for user in range(len(whole))] == stays


def test_ratings_by_hand() -> None:
    log = Histories(np.array([0, 4, 6]), np.arange(6, dtype=np.int32), 6,
                    np.array([2, 4, np.nan, 9, np.nan, np.nan], dtype=np.float32))  # fmt: skip

    def ratings(rules: LocalRules) -> list[float]:
        found = rules(log, 0).ratings
        assert found is not None
        return [round(float(each), 3) for each in found]

    np.testing.assert_equal(ratings(LocalRules(CleaningConfig(scale=(1, 5)))), [2, 4, np.nan, np.nan, np.nan])
    own = CleaningConfig(scale=(1, 5), impute="own-mean")
    np.testing.assert_equal(ratings(LocalRules(own)), [2, 4, 3, np.nan, np.nan])
    means = CleaningConfig(scale=(1, 5), impute="item-means", item_means=Path("means.csv"))
    given = LocalRules(means, np.array([1, 1, 2.5, 1, 4.5, np.nan]))
    np.testing.assert_equal(ratings(given), [2, 4, 2.5, 4.5, np.nan])
    centre = CleaningConfig(scale=(1, 5), normalise="centre")
    np.testing.assert_equal(ratings(LocalRules(centre)), [2, 4, np.nan, np.nan, np.nan])
    standard = CleaningConfig(scale=(0, 8), normalise="standard")  # deviation ((1 + 1 + 2^2) / (2 + 1))^.5 = 2^.5
    np.testing.assert_equal(ratings(LocalRules(standard)), [2.586, 5.414, np.nan, np.nan, np.nan])


def test_drawn_parts_are_stretches_or_shares_and_keep_what_they_should() -> None:
    whole = histories(list(range(400)))
    crop = LocalRules(CleaningConfig(augment="crop", keep=0.5))(whole, 7)
    assert (crop.lengths == np.ceil(whole.lengths / 2)).all()
    for user in range(len(whole)):
        row = whole.row(user).tolist()
        part = crop.row(user).tolist()
        assert not part or row[row.index(part[0]) :][: len(part)] == part
    starts = {whole.row(user).tolist().index(crop.row(user)[0]) for user in range(400) if whole.lengths[user] == 12}
    assert starts == set(range(7))  # every stretch occurs, by the users' own keys
    mask = LocalRules(CleaningConfig(augment="mask", keep=0.7))(whole, 7)
    share, events = len(mask.items) / len(whole.items), len(whole.items)
    assert abs(share - 0.7) < 4 * np.sqrt(0.21 / events)
    again = LocalRules(CleaningConfig(augment="mask", keep=0.7))
    assert rows_of(again(whole, 7)) == rows_of(mask) != rows_of(again(whole, 8))


def test_means_of_the_log_and_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "means.csv"
    for name in ("counts", "log"):
        with pytest.raises(PrivacyError, match="means of the log are private") as caught:
            local_rules(CleaningConfig(impute="item-means", item_means=Path(name)), ("0",))
        assert "\n" not in str(caught.value)
    for text, message in [
        ("item_id,stars\n0,1\n", "needs a column 'rating'"),
        ("item_id,rating\n0,\n1,3\n", "must be a number"),
        ("item_id,rating\n7,3\n", "names no item of the catalogue"),
    ]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            local_rules(CleaningConfig(impute="item-means", item_means=file), ("0", "1"))
    for settings, message in [
        ({"normalise": "centre"}, "needs scale"),
        ({"impute": "item-means"}, "go together"),
        ({"item_means": "a.csv"}, "go together"),
        ({"scale": [5, 1]}, "lowest rating first"),
    ]:
        with pytest.raises(InputError, match=message):
            parse(DataConfig, {"cleaning": settings}, "test")


def rated_log(folder: Path, header: str = "user_id,item_id,rating,timestamp") -> DataConfig:
    columns = header.split(",")
    draw = np.random.default_rng(1)
    rows = [
        {"user_id": user, "item_id": item, "rating": 1 + (user + item) % 5, "timestamp": 100 * place + user}
        for user in range(12)
        for place, item in enumerate(draw.permutation(60)[:15])
    ]
    lines = [",".join(str(row[name]) for name in columns) for row in rows]
    (folder / "log.csv").write_text("\n".join([header, *lines]) + "\n")
    return DataConfig(path=folder / "log.csv", split="ratio")


def test_only_training_is_cleaned_and_baselines_keep_the_log_s_scale(tmp_path: Path) -> None:
    config = rated_log(tmp_path)
    table = CleaningConfig(scale=(2, 5), normalise="standard", augment="mask", burst=3, burst_seconds=200)
    plain = split(load(config, None, 1), "ratio", "test", 1)
    dataset = load(config.model_copy(update={"cleaning": table}), None, 1)
    cleaned = split(dataset, "ratio", "test", 1)
    assert 0 < len(cleaned.train.items) < len(plain.train.items)
    assert rows_of(cleaned.device) == rows_of(plain.device)
    assert rows_of(cleaned.rated_train) == rows_of(plain.train)
    assert rows_of(cleaned.many) == rows_of(plain.many)
    assert mean_errors(cleaned) == mean_errors(plain)
    assert "cleaned on each device for training: no stretch of 200 s with more than 3 events" in cleaned.rule
    assert cleaned.rule.startswith(plain.rule)
    assert 0 < dataset.report["rated outside of the scale"] == int((dataset.histories.ratings < 2).sum())
    assert dataset.report["events in bursts"] == 0


def test_rules_without_their_column_are_refused(tmp_path: Path) -> None:
    config = rated_log(tmp_path, "user_id,item_id")
    for settings in ({"burst": 3}, {"scale": (1, 5)}, {"impute": "own-mean"}):
        with pytest.raises(InputError, match="and there are none"):
            load(config.model_copy(update={"cleaning": CleaningConfig(**settings)}), None, 1)


def test_a_run_without_rules_has_the_text_of_older_versions() -> None:
    plain = DataRequest(data=DataConfig(), seed=1)
    assert "cleaning" not in plain.text()
    ruled = DataRequest(data=DataConfig(cleaning=CleaningConfig(burst=3, scale=(1, 5))), seed=1)
    assert parse_data(ruled.text()) == ruled
