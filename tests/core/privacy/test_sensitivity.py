"""Attempts to add more to a sum than the clip allows, and the proof that the clip is the sensitivity."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import Contribution, DenseContribution, FewRows, SparseContribution, SumQuery

SIZE = 6
CLIPS = (1e-3, 1.0, 7.5, 1e4)
PLANS = {
    clip: PrivacyPlan.build(PrivacyConfig(epsilon=1.0), [(SumQuery("sum", (SIZE,), clip, 1.0),)], 100, 0)
    for clip in CLIPS
}
number = st.one_of(
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e-45, 1e-38, 1.0]),
    st.floats(width=32),
)
user = st.one_of(st.just([0.0] * SIZE), st.lists(number, min_size=SIZE, max_size=SIZE))
users = st.lists(user, min_size=0, max_size=5)


def query(clip: float) -> SumQuery:
    return PLANS[clip].rounds[0]["sum"]


def dense(values: list[list[float]]) -> DenseContribution:
    return DenseContribution(torch.tensor(values, dtype=torch.float32).reshape(-1, SIZE))


def sparse(values: list[list[float]], keep: float = 1.0) -> SparseContribution:
    """The same numbers as coordinates; zeros may be left out, which is where the empty user comes from."""
    table = torch.tensor(values, dtype=torch.float32).reshape(-1, SIZE)
    owners, positions = torch.nonzero(table if keep < 1 else torch.ones_like(table), as_tuple=True)
    return SparseContribution(owners, positions, table[owners, positions], len(table), (SIZE,))


def few(values: list[list[float]]) -> FewRows:
    """Every other user has a row, the first one too; the others add zeros."""
    rows = torch.arange(0, len(values), 2)
    return FewRows(dense(values).values[rows], rows, len(values))


def added(clip: float, contribution: Contribution) -> torch.Tensor:
    """The exact sum of the clipped contributions, as the plan would release it without noise."""
    lattice, total = PLANS[clip].lattice(query(clip)), torch.zeros(SIZE, dtype=torch.int64)
    contribution.add_to(total, PLANS[clip].clip(query(clip), contribution), lattice)
    return query(clip).decode(total, lattice)


@pytest.mark.parametrize("make", [dense, sparse, lambda values: sparse(values, 0.5)], ids=["dense", "sparse", "holes"])
@settings(max_examples=300, deadline=None)
@given(values=user, clip=st.sampled_from(CLIPS))
def test_one_user_never_adds_more_than_the_clip(make, values: list[float], clip: float) -> None:
    total = added(clip, make([values]))
    assert total.isfinite().all()
    assert total.norm() <= clip


@pytest.mark.parametrize("make", [dense, sparse], ids=["dense", "sparse"])
@settings(max_examples=200, deadline=None)
@given(values=users, extra=user, clip=st.sampled_from(CLIPS), place=st.integers(0, 5))
def test_adding_or_removing_a_user_moves_the_sum_by_at_most_the_clip(make, values, extra, clip, place) -> None:
    without = added(clip, make(values))
    place = min(place, len(values))
    change = added(clip, make([*values[:place], extra, *values[place:]])) - without
    assert change.norm() <= clip


@settings(max_examples=50, deadline=None)
@given(values=users, clip=st.sampled_from(CLIPS))
def test_few_rows_are_dense_rows_among_zeros(values: list[list[float]], clip: float) -> None:
    whole = [value if place % 2 == 0 else [0.0] * SIZE for place, value in enumerate(values)]
    assert torch.equal(PLANS[clip].clip(query(clip), few(values)), PLANS[clip].clip(query(clip), dense(whole)))
    assert torch.equal(added(clip, few(values)), added(clip, dense(whole)))
    for place, value in enumerate(whole):
        assert torch.equal(few(values).dense(place), torch.tensor(value)) or not all(map(math.isfinite, value))


@settings(max_examples=200, deadline=None)
@given(values=users, clip=st.sampled_from(CLIPS))
def test_dense_and_sparse_say_the_same(values, clip) -> None:
    ours, theirs = (PLANS[clip].clip(query(clip), make(values)) for make in (dense, sparse))
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=0)
    assert torch.allclose(added(clip, dense(values)), added(clip, sparse(values)), rtol=1e-5, atol=1e-5 * clip)


@pytest.mark.parametrize("items", [0, 1, SIZE])
def test_empty_one_item_all_items(items: int) -> None:
    history = SparseContribution(
        torch.zeros(items, dtype=torch.long), torch.arange(items), torch.full((items,), 2.0), 1, (SIZE,)
    )
    total = added(1.0, history)
    assert total.norm().item() == pytest.approx(min(1.0, 2.0 * math.sqrt(items)), rel=1e-5)
    assert total.norm() <= 1.0


def test_edge_cases_of_the_weights() -> None:
    contribution = dense(
        [[0.5] + [0] * 5, [2.0] + [0] * 5, [0] * 6, [math.nan] + [0] * 5, [math.inf] + [0] * 5, [3.4e38] * 6]
    )
    weights = PLANS[1.0].clip(query(1.0), contribution)
    assert weights.dtype == torch.float64
    assert weights[[0, 2, 3, 4]].tolist() == [1, 1, 0, 0]
    assert weights[1].item() == pytest.approx(0.5, rel=1e-5)
    assert weights[1].item() < 0.5
    assert weights[5].item() < 1e-38


def test_small_users_are_not_scaled_down() -> None:
    values = np.random.default_rng(0).normal(size=(50, SIZE)).tolist()
    norms = torch.tensor(values, dtype=torch.float32).norm(dim=1)
    weights = PLANS[1.0].clip(query(1.0), dense(values))
    expected = torch.where(norms < 0.99, 1.0, torch.minimum(torch.tensor(1.0), 1 / norms)).double()
    assert torch.allclose(weights, expected, rtol=1e-5, atol=0)


def test_a_clip_that_forgets_the_margin_would_be_caught() -> None:
    """float32 rounds the clipped vector up about half the time: the property above can fail."""
    values = torch.rand(2000, SIZE, generator=torch.Generator().manual_seed(1)) + 1
    bare = 1.0 / values.double().norm(dim=1)
    clipped = values * bare.float()[:, None]
    assert (clipped.double().norm(dim=1) > 1.0).any()
