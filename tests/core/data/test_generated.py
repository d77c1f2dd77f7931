"""Generated data: repeats, carries the signal that it promises, costs no memory; and the `fedrec data` command."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.cli import run
from fedrec.data.catalogue import Categories
from fedrec.data.datasets import DataConfig, load
from fedrec.data.splits import Split, split
from fedrec.data.synthetic import SyntheticUsers


def hit_rate(made: Split, scores: np.ndarray) -> float:
    assert made.negatives is not None
    candidates = np.concatenate([made.targets[:, None], made.negatives], axis=1)
    taken = np.take_along_axis(scores, candidates, axis=1)
    return float(((taken[:, 1:] >= taken[:, :1]).sum(1) < 10).mean())


def test_quickstart_repeats() -> None:
    one, same, other = (load(DataConfig(), None, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.histories.items, same.histories.items)
    assert one.catalogue.titles == same.catalogue.titles
    assert not np.array_equal(one.histories.items[:100], other.histories.items[:100])
    assert (len(one.histories), len(one.catalogue)) == (1000, 600)
    assert one.report["duplicates"] == 0


def test_quickstart_content_others_and_order_each_carry_signal() -> None:
    dataset = load(DataConfig(), None, seed=0)
    made = split(dataset, "leave-one-out", "test", 0)
    train, shape = made.train, (len(made.train), len(dataset.catalogue))
    seen, recent = np.zeros(shape), np.zeros(shape)
    seen[train.owners, train.items] = 1 / train.lengths[train.owners]
    recent[train.owners, train.items] = 0.8 ** train.positions_from_end()
    recent /= recent.sum(1, keepdims=True)
    log_popularity = np.log((seen > 0).sum(0) + 0.5)
    genres = dataset.catalogue.blocks[2]
    assert isinstance(genres, Categories)
    content = genres.membership / np.sqrt(genres.membership.sum(1, keepdims=True))
    has = (seen > 0).astype(float)
    others = has.T @ has / np.sqrt(np.outer(has.sum(0) + 1, has.sum(0) + 1))
    np.fill_diagonal(others, 0)
    popularity = hit_rate(made, np.tile(log_popularity, (shape[0], 1)))
    by_content = hit_rate(made, 10 * seen @ content @ content.T + log_popularity)
    assert by_content > popularity + 0.15
    assert hit_rate(made, 10 * recent @ content @ content.T + log_popularity) > by_content + 0.04
    assert hit_rate(made, seen @ others) > popularity + 0.15
    ranked = np.sort((seen > 0).sum(0))[::-1]
    assert ranked[:60].sum() > 0.25 * ranked.sum()  # a tenth of the items draws much of the events


def test_synthetic_users_are_the_same_in_any_batch() -> None:
    source = SyntheticUsers(1_000_000, 5_000, 50, seed=3)
    users = np.array([999_999, 0, 17, 123_456])
    together = source.batch(users, seed=9)
    assert len(source) == 1_000_000
    assert torch.equal(together.lengths, torch.full((4,), 50))
    for row, user in enumerate(users):
        alone = source.batch(np.array([user]), seed=9)
        assert torch.equal(alone.items, together.items[50 * row : 50 * row + 50])
        assert torch.equal(alone.keys, together.keys[row : row + 1])
    assert not torch.equal(SyntheticUsers(1_000_000, 5_000, 50, seed=4).batch(users, 9).items, together.items)


@pytest.mark.parametrize(("n_items", "count"), [(5_000, 50), (60, 60), (61, 60), (20, 1)])
def test_synthetic_items_are_distinct_within_a_user(n_items: int, count: int) -> None:
    items = SyntheticUsers(500, n_items, count).batch(np.arange(500), 0).items.view(500, count).sort(dim=1).values
    assert (items[:, 1:] > items[:, :-1]).all()
    assert items.min() >= 0
    assert items.max() < n_items


def test_synthetic_popularity_has_a_head_and_order_does_not_follow_it() -> None:
    items = SyntheticUsers(20_000, 2_000, 30).batch(np.arange(20_000), 0).items
    counts = torch.bincount(items, minlength=2_000)
    assert counts.min() > 0
    top = counts.sort(descending=True).values
    assert 0.1 < top[:20].sum() / counts.sum() < 0.5
    by_step = counts[items].double().view(20_000, 30).mean(0)
    assert by_step.max() < 1.05 * by_step.min()


def test_synthetic_can_be_a_dataset() -> None:
    dataset = load(DataConfig(name="synthetic", users=100, items=400, interactions_per_user=20), None, seed=5)
    assert dataset.histories.lengths.tolist() == [20] * 100
    source = SyntheticUsers(100, 400, 20, seed=5)
    assert dataset.histories.items.tolist() == source.batch(np.arange(100), 0).items.tolist()


def test_the_command_describes_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user in range(40) for item in range(30)))
    assert run(["data", "describe", str(log)]) == 0
    told = capsys.readouterr().out
    assert "1,200" in told
    assert "unknown" in told
    assert run(["data", "list", "--data-dir", str(tmp_path)]) == 0
    assert "ml-1m" in capsys.readouterr().out
    assert run(["data", "describe", str(log), "--min-rating", "nan"]) == 2
    assert capsys.readouterr().err.startswith("error: fedrec data describe: 'min_rating' = nan: ")
    assert run(["data", "describe", "ml-1x"]) == 2
    assert "Did you mean 'ml-1m'" in capsys.readouterr().err
    assert run(["data", "describe", str(tmp_path / "none.parquet")]) == 2
