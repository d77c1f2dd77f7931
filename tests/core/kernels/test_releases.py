"""The private releases of kernel methods: what a user adds, and what denoising makes of the noisy sum."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedrec import draws
from fedrec.data.catalogue import Catalogue, Categories
from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import DECAY, REACH, LaggedPairs, cooccurrence_query, pairs, triangle
from fedrec.kernels.denoise import Lift, fit_lift, low_rank, sampling_variance
from fedrec.kernels.popularity import FLOOR, denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import public_kernels
from fedrec.privacy.queries import PrivateSum

ITEMS = 120


def batch(rows: list[list[int]], items: int = ITEMS) -> UserBatch:
    return UserBatch(
        items=torch.tensor([item for row in rows for item in row], dtype=torch.int64),
        lengths=torch.tensor([len(row) for row in rows], dtype=torch.int64),
        n_items=items,
        keys=draws.keys(1, torch.arange(len(rows))),
    )


# ---- co-occurrence

HEAD = torch.tensor([5, 99, 0, 42, *range(50, 90)])


def location() -> Tensor:
    place = torch.full((ITEMS,), -1)
    place[HEAD] = torch.arange(len(HEAD))
    return place


def pair_vector(row: list[int], skip: int, decay: float) -> Tensor:
    """The slow oracle: one user's symmetric matrix, pair by pair, its upper triangle divided by its norm."""
    once = list(dict.fromkeys(row))
    kept = [int(location()[item]) for item in once[: max(0, len(once) - skip)] if location()[item] >= 0]
    matrix = torch.zeros(len(HEAD), len(HEAD), dtype=torch.float64)
    for i, a in enumerate(kept):
        for j in range(i + 1, len(kept) if decay == 1 else min(len(kept), i + REACH + 1)):
            matrix[min(a, kept[j]), max(a, kept[j])] += decay ** (j - i - 1)
    flat = torch.stack([matrix[a, b] for a in range(len(HEAD)) for b in range(a + 1, len(HEAD))])
    return flat / flat.norm() if bool(flat.any()) else flat


histories = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=30), min_size=1, max_size=4)
LONG = [*range(ITEMS)] * 2  # repeats, and more than REACH head items once those are gone


@given(rows=histories, skip=st.integers(0, 4), ordered=st.booleans())
@settings(max_examples=25, deadline=None)
def test_pairs_equal_a_double_loop_and_never_exceed_unit_norm(rows: list[list[int]], skip: int, ordered: bool) -> None:
    rows = [*rows, LONG[: 40 * skip], LONG, []]
    users = batch(rows)
    tied = torch.arange(len(users)) % 3 == 1  # of these users no order is known
    users = replace(users, tied=tied) if ordered else users.unordered()
    part = LaggedPairs(users, location(), len(HEAD), skip)
    decays = [1.0 if unknown or not ordered else DECAY for unknown in tied.tolist()]
    expected = torch.stack([pair_vector(row, skip, decay) for row, decay in zip(rows, decays, strict=True)])
    assert torch.equal(part.norms(), expected.norm(dim=1).round())
    assert part.norms().max() <= 1
    weights = torch.linspace(0, 2, len(users))
    torch.testing.assert_close(part.weighted_sum(weights).double(), weights.double() @ expected, atol=1e-5, rtol=1e-4)
    for row in range(len(users)):
        dense = part.dense(row).double()
        torch.testing.assert_close(dense, expected[row], atol=1e-6, rtol=1e-4)
        assert dense.norm() <= 1 + 1e-5  # the sensitivity that the query promises


def test_more_head_items_than_the_reach() -> None:
    everything = torch.arange(ITEMS)
    part = LaggedPairs(batch([list(range(ITEMS))]), everything, ITEMS, 0)
    matrix = triangle(part.dense(0), ITEMS)
    assert part.dense(0).norm() == pytest.approx(1.0, abs=1e-5)
    assert matrix[0, REACH] > 0
    assert matrix[0, REACH + 1] == 0
    assert float(matrix[3, 5] / matrix[3, 4]) == pytest.approx(DECAY, rel=1e-5)


def test_without_an_order_every_pair_counts_the_same() -> None:
    everything, tied = torch.arange(ITEMS), torch.tensor([True, False])
    users = batch([list(range(ITEMS))] * 2)
    for unknown in (users.unordered(), replace(users, tied=tied)):
        flat = LaggedPairs(unknown, everything, ITEMS, 0).dense(0).double()
        torch.testing.assert_close(flat, torch.full_like(flat, len(flat) ** -0.5))


def test_no_pair_within_reach_adds_nothing() -> None:
    part = LaggedPairs(batch([[], [5], [5, 5, 5], [1, 2, 3], [5, 1]]), location(), len(HEAD), 0)
    assert not part.norms().any()
    assert not part.weighted_sum(torch.ones(5)).any()
    assert part.weighted_sum(torch.ones(5)).isfinite().all()


def test_triangle_is_symmetric_and_follows_the_pairs() -> None:
    flat = torch.arange(1.0, pairs(5) + 1)
    expected = torch.zeros(5, 5)
    position = 0
    for a in range(5):
        for b in range(a + 1, 5):
            expected[a, b] = expected[b, a] = flat[position]
            position += 1
    assert torch.equal(triangle(flat, 5), expected)
    assert cooccurrence_query(pairs(5), 0.5).shape == (10,)
    assert pairs(2) == 1


# ---- popularity


@given(rows=histories)
@settings(max_examples=25, deadline=None)
def test_popularity_has_unit_norm_whatever_the_history(rows: list[list[int]]) -> None:
    part = popularity_contribution(batch(rows))
    for row, items in enumerate(rows):
        expected = torch.zeros(ITEMS)
        expected[sorted(set(items))] = 1 / math.sqrt(max(1, len(set(items))))
        torch.testing.assert_close(part.dense(row), expected)
        assert float(part.norms()[row]) == pytest.approx(1.0 if items else 0.0, abs=1e-6)
        assert part.dense(row).norm() <= popularity_query(ITEMS, 1.0).clip_norm + 1e-6


def groups(items: int = 400) -> tuple[Catalogue, Tensor]:
    """Return a catalogue whose labels reveal popularity up to a factor of about 1.3, and that popularity."""
    generator = np.random.default_rng(0)
    group = generator.integers(8, size=items)
    member = np.eye(8, dtype=bool)[group]
    truth = np.exp(generator.normal(0, 0.25, items) + np.linspace(0, 5, 8)[group])
    block = Categories("genre", tuple("abcdefgh"), member)
    return Catalogue(tuple(map(str, range(items))), blocks=(block,)), torch.from_numpy(truth).float()


def noisy(truth: Tensor, std: float, seed: int = 0) -> PrivateSum:
    return PrivateSum(truth + std * torch.randn(len(truth), generator=torch.Generator().manual_seed(seed)), std)


def off_by(estimate: Tensor, truth: Tensor) -> float:
    return float((estimate.clamp(min=FLOOR).log() - truth.clamp(min=FLOOR).log()).square().mean().sqrt())


def test_without_noise_popularity_is_kept_above_the_floor() -> None:
    catalogue, truth = groups()
    truth[:5] = 0.0
    assert torch.equal(denoise(PrivateSum(truth, 0.0), public_kernels(catalogue, 8)), truth.clamp(min=FLOOR))


@pytest.mark.parametrize("std", [3.0, 10.0, 30.0])
def test_denoising_comes_closer_to_the_truth_than_the_release(std: float) -> None:
    catalogue, truth = groups()
    release = noisy(truth, std)
    estimate = denoise(release, public_kernels(catalogue, 8))
    blind = denoise(release, public_kernels(Catalogue(catalogue.ids), 8))
    assert off_by(estimate, truth) < 0.6 * off_by(release.value, truth)
    assert off_by(estimate, truth) < off_by(blind, truth), "content that tells popularity must help"
    assert (estimate >= FLOOR).all()


def test_little_noise_changes_little() -> None:
    catalogue, truth = groups()
    estimate = denoise(noisy(truth + 20, 0.5), public_kernels(catalogue, 8))
    grid_step = math.log(300 / FLOOR) / 79  # the posterior of a sharp release snaps to its grid
    assert ((estimate - truth - 20).abs() < 4 * 0.5 + 0.6 * grid_step * (truth + 20)).all()


@pytest.mark.parametrize(
    "value", [torch.zeros(3), torch.full((3,), -1e6), torch.tensor([1e6, 0.0, -1e6]), torch.ones(1)]
)
@pytest.mark.parametrize("std", [0.0, 1.0, 1e6])
def test_denoised_popularity_is_finite_and_positive(value: Tensor, std: float) -> None:
    estimate = denoise(PrivateSum(value, std), public_kernels(Catalogue(tuple(map(str, range(len(value)))))))
    assert estimate.isfinite().all()
    assert (estimate >= FLOOR).all()


# ---- lift

TASTES, SIZE, BIG, USERS = 4, 160, 40.0, 5000.0


def planted_lift() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(popularity, true lift, its expected counts, content): items of one taste meet 3 times as often, and a few
    pairs of no common taste 5 times as often, which no content tells."""
    generator = torch.Generator().manual_seed(0)
    taste = torch.arange(SIZE) % TASTES
    popularity = torch.rand(SIZE, generator=generator) + 0.5
    lift = torch.where(taste[:, None] == taste, 2.0, -0.5)
    for a, b in torch.randint(SIZE, (60, 2), generator=generator).tolist():
        if a != b:
            lift[a, b] = lift[b, a] = 4.0
    expected = BIG * popularity[:, None] * popularity
    expected.fill_diagonal_(0)
    lift.fill_diagonal_(0)
    return popularity, lift, expected, torch.nn.functional.one_hot(taste).float()


def symmetric_noise(std: float, seed: int = 1) -> Tensor:
    upper = (std * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))).triu(1)
    return upper + upper.T


def learned(fit: Lift) -> Tensor:
    return (fit.factors * fit.signs) @ fit.factors.T + fit.residual


OFF = ~torch.eye(SIZE, dtype=torch.bool)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a[OFF], b[OFF]]))[0, 1])


def test_planted_lift_is_recovered_without_noise() -> None:
    popularity, lift, expected, content = planted_lift()
    fit = fit_lift(expected * (1 + lift), 0.0, popularity, [], content, users=USERS)
    assert correlation(learned(fit), lift) > 0.95
    assert correlation(fit.cosine, expected.sqrt() * (1 + lift)) > 0.95
    kernels = fit_lift(expected * (1 + lift), 0.0, popularity, [content @ content.T], content, users=USERS)
    assert correlation(kernels.cosine, expected.sqrt() * (1 + lift)) > 0.95


def test_content_gives_factors_to_items_outside_the_release() -> None:
    popularity, lift, expected, content = planted_lift()
    fit = fit_lift(expected * (1 + lift), 5.0, popularity, [], content, users=USERS)
    tail = torch.eye(TASTES) @ fit.content
    gram = (tail * fit.signs) @ tail.T
    same, other = gram.diagonal(), gram[~torch.eye(TASTES, dtype=torch.bool)]
    assert same.min() > other.max() + 0.5


def test_noise_between_lift_and_release_is_filtered() -> None:
    popularity, lift, expected, content = planted_lift()
    std = 2 * BIG
    release = expected * (1 + lift) + symmetric_noise(std)
    fit = fit_lift(release, std, popularity, [], content, users=USERS)
    raw = torch.where(OFF, release / expected.clamp(min=1e-9) - 1, 0.0)
    assert correlation(learned(fit), lift) > correlation(raw, lift) + 0.1


@pytest.mark.parametrize("seed", range(4))
def test_pure_noise_leaves_next_to_no_residual(seed: int) -> None:
    popularity, _, expected, content = planted_lift()
    std = BIG
    fit = fit_lift(expected + symmetric_noise(std, seed), std, popularity, [], content, users=USERS)
    left = symmetric_noise(std, seed)[OFF] / expected[OFF]
    assert fit.residual.square().mean().sqrt() < 0.01 * left.square().mean().sqrt()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("std", [1e3, 1e6])
def test_nothing_but_noise_is_finite_also_where_it_fits_a_level_below_zero(std: float, seed: int) -> None:
    popularity, _, _, content = planted_lift()
    for sign in (1, -1):
        release = sign * symmetric_noise(std, seed)
        fit = fit_lift(release, std, popularity, [content @ content.T], content, users=USERS, steps=20)
        assert all(t.isfinite().all() for t in (fit.factors, fit.content, fit.residual, fit.cosine))


def test_a_thin_log_keeps_its_lift_without_noise() -> None:
    """Counts of a thousandth, as where users' pair vectors are spread over many items, and lifts in the tens."""
    popularity, lift, expected, content = planted_lift()
    thin, strong = expected / BIG / 1000, 20 * lift.clamp(min=0)
    fit = fit_lift(thin * (1 + strong), 0.0, popularity, [], content, users=float(thin.sum() / 40))
    assert correlation(learned(fit), strong) > 0.95
    apart = strong > 50  # pairs that no content tells
    assert learned(fit)[apart].mean() > learned(fit)[(strong > 0) & ~apart].mean()


def test_the_sampling_variance_is_that_of_users_who_add_unit_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    head, users, each = 30, 400, 12
    weight = torch.rand(head, generator=generator) + 0.2
    upper = torch.triu_indices(head, head, 1)
    likely = (weight[upper[0]] * weight[upper[1]]).double()
    sums = torch.zeros(300, len(likely), dtype=torch.float64)
    for trial in range(300):
        chosen = torch.multinomial(likely.expand(users, -1), each, generator=generator)
        sums[trial].index_add_(0, chosen.flatten(), torch.full((users * each,), each**-0.5, dtype=torch.float64))
    release = triangle(sums[0].float(), head)
    product = weight[:, None] * weight * (1 - torch.eye(head))
    expected = product * (release.sum() / product.sum())
    claimed = sampling_variance(release, expected, users)[upper[0], upper[1]]
    assert float(claimed.sum() / sums.var(0).sum()) == pytest.approx(1, rel=0.15)
    groups = claimed.argsort().chunk(3)  # thin pairs vary less than thick ones, in proportion
    for group in groups:
        assert float(claimed[group].sum() / sums.var(0)[group].sum()) == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("size", [2, 3])
def test_a_head_of_a_few_items(size: int) -> None:
    for release in (torch.zeros(size, size), torch.ones(size, size) - torch.eye(size)):
        fit = fit_lift(release, 1.0, torch.ones(size), [], torch.ones(size, 1), users=USERS, steps=10)
        assert all(t.isfinite().all() for t in (fit.factors, fit.content, fit.residual, fit.cosine))


def test_the_lift_is_a_function_of_the_seed() -> None:
    popularity, lift, expected, content = planted_lift()
    release = expected * (1 + lift)
    first, again = (fit_lift(release, 1.0, popularity, [], content, users=USERS, steps=5, seed=2) for _ in range(2))
    assert torch.equal(first.factors, again.factors)
    assert torch.equal(first.residual, again.residual)


# ---- low rank


def test_low_rank_is_the_truncated_eigendecomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(60, 60, generator=generator))
    spectrum = 0.7 ** torch.arange(60.0) * torch.where(torch.arange(60) % 3 == 0, -1.0, 1.0)
    matrix = basis @ torch.diag(spectrum) @ basis.T
    for rank in (1, 5, 12):
        values, signs = low_rank(matrix, rank)
        assert values.shape == (60, rank)
        best = basis[:, :rank] @ torch.diag(spectrum[:rank]) @ basis[:, :rank].T
        torch.testing.assert_close((values * signs) @ values.T, best, atol=2e-3, rtol=0)
        assert sorted(signs.tolist()) == sorted(spectrum[:rank].sign().tolist())


@pytest.mark.parametrize("rank", [3, 8, 100])
def test_low_rank_of_small_and_empty_matrices(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(8, 8, generator=generator)
    matrix = matrix + matrix.T
    values, signs = low_rank(matrix, rank)
    assert values.shape == (8, min(rank, 8))
    if rank >= 8:
        torch.testing.assert_close((values * signs) @ values.T, matrix, atol=1e-4, rtol=0)
    values, _ = low_rank(torch.zeros(8, 8), rank)
    assert torch.equal(values, torch.zeros(8, min(rank, 8)))
