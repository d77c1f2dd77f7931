"""A small run that tests of the Python API share."""

import polars as pl
import pytest

import fedrec


@pytest.fixture(scope="session")
def log() -> pl.DataFrame:
    """30 people with ids that occur nowhere else, and 24 items."""
    rows = [
        (f"person-zqxjkv{user:02d}", f"item-{item}") for user in range(30) for item in range(user % 5, 24, 1 + user % 3)
    ]
    return pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            "timestamp": [1_600_000_000 + 60 * n for n in range(len(rows))],
        }
    )


@pytest.fixture(scope="session")
def catalogue() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"item-{n}" for n in range(24)],
            "title": [f"The <b>{n}</b>th" for n in range(24)],
            "genres": [["even" if n % 2 == 0 else "odd", "low" if n < 12 else "high"] for n in range(24)],
        }
    )


@pytest.fixture(scope="session")
def data(log: pl.DataFrame, catalogue: pl.DataFrame) -> fedrec.Data:
    return fedrec.read_log(log, catalogue)


@pytest.fixture(scope="session")
def run(data: fedrec.Data) -> fedrec.Run:
    """kernel-rank, one training round."""
    settings = {"algorithm.rounds": 1, "evaluation.baselines": False}
    return fedrec.simulate("kernel-rank", data, epsilon=8, delta=1e-3, seed=1, settings=settings, progress=False)
