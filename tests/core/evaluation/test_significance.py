"""Paired tests: against other code, against chance, and what is kept of a run for them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedrec.errors import InputError
from fedrec.evaluation.kept import NOTE, load_ranks, save_ranks
from fedrec.evaluation.metrics import measure
from fedrec.evaluation.ranking import Ranks, ranks
from fedrec.evaluation.significance import compare, compare_ranks, user_values
from tests.core.evaluation.table_model import Table
from tests.core.evaluation.test_ranking import toy
from tests.core.evaluation.test_several import toy as several


def two_runs(make=toy, seed: int = 0) -> tuple[Ranks, Ranks]:
    split, model = make(seed)
    generator = torch.Generator().manual_seed(seed)
    return ranks(model, split), ranks(Table(torch.rand(model.table.shape, generator=generator)), split)


@pytest.mark.parametrize("make", [toy, several])
def test_the_mean_of_user_values_is_the_metric(make):
    found, _ = two_runs(make)
    for metric in ("hr@10", "ndcg@5", "map@20", "precision@3", "auc", "gauc"):
        each = user_values(found, metric)
        assert each.shape == found.users.shape
        assert each.mean() == pytest.approx(measure(found.protocols["full"], (metric,))[metric])
    if make is toy:
        assert user_values(found, "hr@10", "sampled-99").mean() == pytest.approx((found.sampled < 10).double().mean())
    with pytest.raises(InputError, match="was not measured; there is full"):
        user_values(found, "hr@10", "sampled-100")


def test_the_interval_is_that_of_users_drawn_one_by_one():
    rng = np.random.default_rng(0)
    a, b = rng.random(60), rng.random(60)
    found = compare(a, b, seed=1)
    means = np.array([rng.choice(a - b, size=60).mean() for _ in range(10_000)])
    assert found.difference == pytest.approx((a - b).mean())
    assert found.users == 60
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)
    shifted = np.abs(means - found.difference) >= abs(found.difference)
    assert found.p_bootstrap == pytest.approx(shifted.mean(), abs=0.02)


def test_many_users_agree_with_the_normal_law():
    rng = np.random.default_rng(1)
    a = rng.random(5000) < 0.52
    b = rng.random(5000) < 0.5
    found, differences = compare(a, b, seed=0), a.astype(float) - b
    std = differences.std() / 5000**0.5
    assert [found.low, found.high] == pytest.approx(found.difference + 1.96 * std * np.array([-1, 1]), abs=std / 10)
    assert found.p_bootstrap == pytest.approx(2 * norm.sf(abs(found.difference) / std), abs=0.02)


def slow_signed_rank(differences: list[float]) -> float:
    """Every assignment of signs, one by one."""
    kept = [d for d in differences if d]
    size = np.array([sum(abs(e) < abs(d) for e in kept) + (1 + sum(abs(e) == abs(d) for e in kept)) / 2 for d in kept])
    signs = (np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept))) & 1
    sums, seen = signs @ size, size @ (np.array(kept) > 0)
    return min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=9, unique=True), st.randoms(use_true_random=False))
def test_wilcoxon_is_the_count_of_all_signs(sizes, random):
    differences = np.array([random.choice([-1, 1]) * size for size in sizes], dtype=float)
    found = compare(differences, np.zeros(len(sizes)), seed=0, repeats=10)
    assert found.p_wilcoxon == pytest.approx(slow_signed_rank(differences.tolist()))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_what_holds_of_every_comparison(pairs):
    a, b = np.array(pairs).T
    one, other = compare(a, b, seed=3, repeats=200), compare(b, a, seed=3, repeats=200)
    assert one == compare(a, b, seed=3, repeats=200)
    assert 0 < one.p_bootstrap <= 1
    assert 0 <= one.p_wilcoxon <= 1
    assert one.low <= one.high
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_wilcoxon == pytest.approx(other.p_wilcoxon)


def test_nothing_is_found_where_nothing_differs():
    found = compare(np.ones(9), np.ones(9), seed=0)
    assert (found.difference, found.low, found.high, found.p_bootstrap, found.p_wilcoxon) == (0, 0, 0, 1, 1)


def test_the_level_is_kept_and_a_difference_is_found():
    rng = np.random.default_rng(5)
    null = [compare(*rng.random((2, 80)), seed=i, repeats=400) for i in range(200)]
    for name in ("p_bootstrap", "p_wilcoxon"):
        assert 0.01 <= np.mean([getattr(c, name) < 0.05 for c in null]) <= 0.11
    assert 0.89 <= np.mean([c.low <= 0 <= c.high for c in null]) <= 0.99
    real = [compare(rng.random(80) + 0.3, rng.random(80), seed=i, repeats=400) for i in range(20)]
    assert all(c.p_bootstrap < 0.01 and c.p_wilcoxon < 0.01 and c.low > 0 for c in real)


def test_values_that_do_not_pair_are_an_error():
    with pytest.raises(InputError, match="one value a user"):
        compare(np.ones(3), np.ones(4), seed=0)
    with pytest.raises(InputError, match="one value a user"):
        compare(np.ones(0), np.ones(0), seed=0)
    with pytest.raises(InputError, match="finite"):
        compare(np.array([1.0, np.nan]), np.ones(2), seed=0)
    a, b = two_runs()
    assert compare_ranks(a, b, "ndcg@10", 0) == compare(user_values(a, "ndcg@10"), user_values(b, "ndcg@10"), 0)
    for other in (replace(b, users=b.users + 1), replace(b, targets=b.targets + 1), replace(b, n_items=41)):
        with pytest.raises(InputError, match="held out different items"):
            compare_ranks(a, other, "ndcg@10", 0)


@pytest.mark.parametrize("make", [toy, several])
def test_kept_ranks_come_back_and_say_what_they_are(make, tmp_path):
    found, _ = two_runs(make)
    path = tmp_path / "evaluation" / "ranks.npz"
    save_ranks(found, path)
    again = load_ranks(path)
    assert np.array_equal(again.users, found.users)
    assert again.users.dtype == found.users.dtype
    assert again.n_items == found.n_items
    for name in ("owners", "targets", "full", "sampled", "others", "lists"):
        kept, first = getattr(again, name), getattr(found, name)
        assert (kept is None and first is None) or (kept.equal(first) and kept.dtype == first.dtype)
    assert str(np.load(path)["note"]) == NOTE
    assert path.stat().st_mode & 0o077 == 0, "private data: nobody else may read it"
    assert np.load(path)["full"].dtype.itemsize == 1


def test_a_file_of_something_else_is_an_error(tmp_path):
    with pytest.raises(InputError, match="keep_ranks"):
        load_ranks(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=1)
    whole = tmp_path / "whole.npz"
    save_ranks(two_runs()[0], whole)
    body = bytearray(whole.read_bytes())
    start = body.index(b"full.npy") + 40  # inside of what is compressed
    body[start : start + 8] = b"\xff" * 8
    (tmp_path / "damaged.npz").write_bytes(body)
    for name in ("text.npz", "other.npz", "damaged.npz"):
        with pytest.raises(InputError, match="not a file of ranks"):
            load_ranks(tmp_path / name)
