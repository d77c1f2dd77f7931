"""A public donor log as vectors of another catalogue: who is in both, which rule dropped whom, and what a run says."""

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fedrec.cli import app
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.encoded import encoders_of
from fedrec.donors.overlap import active, likeness
from fedrec.donors.vectors import spectral

ITEMS, COPIES = 80, 4
DAY = 86400.0
NEW_YEAR = 946684800.0
"""2000-01-01."""


def write(folder: Path, name: str, seed: int, users: int, day: float, copies: list[list[int]] | None = None) -> Path:
    """Two groups of users, one for even items and one for odd ones; `copies` are further users, in the year 2000."""
    draw = random.Random(seed)
    rows = [draw.sample(range(user % 2, ITEMS, 2), 10) for user in range(users)] + (copies or [])
    times = [day] * users + [NEW_YEAR] * len(copies or [])
    events = [(user, item, times[user]) for user, row in enumerate(rows) for item in row]
    file = folder / f"{name}.csv"
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(file)
    return file


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("donors")
    private = write(folder, "private", 1, 50, NEW_YEAR)
    table = pl.read_csv(private)
    copies = [table.filter(pl.col("user_id") == user)["item_id"].to_list()[:-1] for user in range(COPIES)]
    return write(folder, "donor", 2, 60, NEW_YEAR + 400 * DAY, copies), private


def loaded(file: Path) -> Dataset:
    return load(DataConfig(path=file), None, 0)


def place_of(donor: Dataset, private: Dataset) -> np.ndarray:
    return np.array([private.catalogue.ids.index(item) for item in donor.catalogue.ids])


def test_people_of_both_logs_are_found_by_their_histories_and_by_public_dates(logs: tuple[Path, Path]) -> None:
    donor, private = map(loaded, logs)
    found = likeness(donor.histories, private.histories, place_of(donor, private))
    assert (found.jaccard[-COPIES:] >= 0.9).all()
    assert (found.jaccard[:-COPIES] < 0.8).all()
    assert found.counts()[0.8] == (COPIES, COPIES)
    assert found.counts()[0.3][0] > COPIES  # sharing a few is no sign of one person
    dates = active(donor.histories, NEW_YEAR, NEW_YEAR + DAY)
    assert np.flatnonzero(dates).tolist() == list(range(60, 60 + COPIES))


def test_likeness_equals_that_of_one_pair_of_sets_at_a_time(logs: tuple[Path, Path]) -> None:
    donor, private = map(loaded, logs)
    place = place_of(donor, private)
    place[3] = -1  # an item that the private log lacks is in no union
    found = likeness(donor.histories, private.histories, place)
    theirs = [set(row.tolist()) for row in np.split(private.histories.items, private.histories.offsets[1:-1])]
    counts = np.bincount(private.histories.items, minlength=ITEMS)
    rare = np.log(len(theirs) / counts).clip(min=0)
    for user in (0, 7, 61):
        row = donor.histories.items[donor.histories.offsets[user] : donor.histories.offsets[user + 1]]
        ours = {int(at) for at in place[row] if at >= 0}
        assert np.isclose(found.jaccard[user], max(len(ours & other) / len(ours | other) for other in theirs))
        pairs = [(sum(rare[list(ours & other)]), sum(rare[list(ours | other)])) for other in theirs]
        assert np.isclose(found.rarity[user], max(shared / union for shared, union in pairs))


def test_vectors_carry_which_items_the_same_people_use_and_nothing_of_dropped_ones(logs: tuple[Path, Path]) -> None:
    donor, private = map(loaded, logs)
    place, kept = place_of(donor, private), np.arange(len(donor.histories)) < 60
    vectors = spectral(donor.histories, kept, place, ITEMS, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike, group = unit @ unit.T, np.array([int(item) % 2 for item in private.catalogue.ids])
    same = group[:, None] == group
    assert alike[same].mean() > alike[~same].mean() + 0.5
    few = spectral(donor.histories, np.arange(len(donor.histories)) < 8, place, ITEMS, 4)
    assert (~few.any(1)).any()  # items of fewer than two people


def test_the_file_names_donor_digest_rule_and_how_many_it_dropped(logs: tuple[Path, Path], tmp_path: Path) -> None:
    donor, private = map(str, logs)
    out = tmp_path / "vectors.parquet"
    given = ["data", "donor", donor, "--for", private, "--width", "4", "--out", str(out)]
    done = CliRunner().invoke(
        app, [*given, "--drop-active", "2000-01-01..2000-02-01", "--kept-log", str(tmp_path / "kept")]
    )
    assert done.exit_code == 0, done.output
    about = encoders_of(out)["donor"]
    assert f"users dropped: {COPIES} of {60 + COPIES} ({COPIES} with an event in 2000-01-01..2000-02-01)" in about
    assert pl.read_parquet(tmp_path / "kept/events.parquet")["user_id"].n_unique() == 60
    catalogue = load(DataConfig(path=logs[1], vectors=out), None, 0).catalogue
    assert catalogue.encoders == {"donor": about}
    CliRunner().invoke(app, given)
    assert "people of the private log may be among them" in encoders_of(out)["donor"]
    assert load(DataConfig(path=logs[1], vectors=out), None, 0).catalogue.digest != catalogue.digest
    looked = CliRunner().invoke(app, [*given, "--drop-alike", "0.8"])
    assert "which no epsilon covers" in looked.output
    assert f"{COPIES} more by comparing histories with the private log" in encoders_of(out)["donor"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop-active", "2001-01-01..2000-01-01"], "ends before it begins"),
        (["--drop-active", "spring"], "must be DAY..DAY"),
        (["--match", "title"], "without titles"),
        (["--width", "200"], "smaller --width"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    logs: tuple[Path, Path], tmp_path: Path, options: list[str], message: str
) -> None:
    out = tmp_path / "vectors.parquet"
    done = CliRunner().invoke(app, ["data", "donor", str(logs[0]), "--for", str(logs[1]), "--out", str(out), *options])
    assert done.exit_code != 0
    assert message in str(done.exception)
    assert not out.exists()
