"""The split by domain: what devices know, what is ranked, and that nobody's future or other run is part of it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import fedrec
from fedrec.api.run import Run
from fedrec.audit.verify.combine import combine
from fedrec.audit.verify.combined_run import Run as Combined
from fedrec.data import splits
from fedrec.data.datasets import DataConfig, Dataset, load
from fedrec.data.splits import Split
from fedrec.errors import InputError

USERS, ITEMS, TASTES = 90, 60, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films and books with tastes that people have in both; a book is read between films."""
    folder, draw = tmp_path_factory.mktemp("domains"), random.Random(0)
    items = [(item, "book" if item % 2 else "film", f"taste {item % TASTES}") for item in range(ITEMS)]
    events = []
    for user in range(USERS):
        of_taste = [item for item in range(ITEMS) if item % TASTES == user % TASTES]
        films = draw.sample([item for item in of_taste if item % 2 == 0], 6)
        books = draw.sample([item for item in of_taste if item % 2], 4) if user else []
        order = [
            each for pair in zip(films, (books + [None] * 6)[:6], strict=True) for each in pair if each is not None
        ]
        events += [(user, item, 1000.0 + place) for place, item in enumerate(order)]
    pl.DataFrame(items, schema=["item_id", "domain", "taste"], orient="row").write_csv(folder / "items.csv")
    pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "log.csv")
    return folder


def config(folder: Path, **hold_out: Any) -> DataConfig:
    values = {"target": "domain=book"} | hold_out
    return DataConfig.model_validate(
        {
            "path": folder / "log.csv",
            "catalogue": folder / "items.csv",
            "split": "cross-domain",
            "hold_out": values,
        }
    )


def made(folder: Path, on: str = "test", **hold_out: Any) -> tuple[Dataset, Split]:
    data = load(config(folder, **hold_out), None, 0)
    return data, splits.split(data, "cross-domain", on, 0)  # type: ignore[arg-type]


def test_devices_know_older_events_alone_and_are_ranked_in_one_domain(folder: Path) -> None:
    data, both = made(folder)
    _, alone = made(folder, elsewhere=False)
    assert both.targets.tolist() == alone.targets.tolist()
    assert both.targets[0] == -1  # without a book
    for user in range(USERS):
        row, own = data.histories.row(user).tolist(), both.train.row(user).tolist()
        if user == 0:
            assert own == row
            assert alone.train.row(0).tolist() == []
            continue
        books = [item for item in row if int(data.catalogue.ids[item]) % 2]
        assert both.targets[user] == books[-1]
        assert own == row[: row.index(books[-1])]
        assert alone.train.row(user).tolist() == books[:-1]
        masked = set(both.seen.row(user).tolist())
        assert masked == set(range(ITEMS)) - {item for item in range(ITEMS) if _book(data, item)} | set(books[:-1])
    _, before = made(folder, "validation")
    assert before.targets[1] == [item for item in data.histories.row(1) if _book(data, int(item))][-2]
    assert both.targets[1] not in before.train.row(1)


def _book(data: Dataset, item: int) -> bool:
    return int(data.catalogue.ids[item]) % 2 == 1


def test_known_events_of_the_domain_are_the_newest_ones_and_the_others_stay_masked(folder: Path) -> None:
    data, split = made(folder, known=1)
    books = [item for item in data.histories.row(5).tolist() if _book(data, item)]
    assert [item for item in split.train.row(5).tolist() if _book(data, item)] == books[-2:-1]
    assert set(books[:-1]) <= set(split.seen.row(5).tolist())
    _, none = made(folder, known=0, elsewhere=False)
    assert len(none.train.items) == 0
    assert (none.targets[1:] >= 0).all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "needs data.hold_out.target"),
        ("domains=book", "domain"),
        ("domain=boook", "book"),
        ("title=x", "no column"),
    ],
)
def test_a_domain_that_the_catalogue_lacks_is_refused_in_one_line(folder: Path, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(folder, target=target)


@pytest.mark.slow
def test_tastes_of_one_domain_help_lists_in_another_and_both_domains_are_one_budget(folder: Path) -> None:
    def run(name: str, algorithm: str, epsilon: Any = 8, seed: int = 1, **hold_out: Any) -> Run:
        settings = {"data.path": str(folder / "log.csv"), "data.catalogue": str(folder / "items.csv")}
        settings |= {"data.split": "cross-domain", "data.hold_out.target": "domain=book", "evaluation.baselines": False}
        settings |= {f"data.hold_out.{key}": value for key, value in hold_out.items()}
        where: dict[str, Any] = {"progress": False, "out": folder / name, "delta": 1e-5}
        return fedrec.simulate(algorithm, epsilon=epsilon, seed=seed, settings=settings, **where)

    both, alone = run("both", "content", known=0), run("alone", "content", known=0, elsewhere=False)
    ranked = [float(found.summary["metrics"]["full"]["hr@10"]) for found in (both, alone)]
    assert ranked[0] > ranked[1] + 0.3, ranked  # ten books of a taste, thirty in all
    joint = run("joint", "popularity")
    books, films = (
        run(name, "popularity", seed=seed, target=f"domain={name}", elsewhere=False)
        for seed, name in enumerate(("book", "film"), start=2)
    )
    assert joint.epsilon is not None
    assert joint.epsilon <= 8  # one clip, one budget
    added = combine([Combined.read(found.folder, None) for found in (books, films)])
    assert float(added.basic.epsilon or 0) >= 16 - 1e-3  # two runs that each charge the same people
    assert np.isclose(float(added.basic.delta), 2e-5)
