"""The factor: its error is the published one, its sensitivity that of the worst participation, by brute force."""

import itertools
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import PrivacyError
from fedrec.privacy.banded.factor import Factor, independent_error, optimal

PUBLISHED = {(40, 5): 5.113, (40, 10): 8.487, (200, 10): 9.982, (200, 4): 5.411}
"""(steps, participations) -> root mean square error of the best banded Toeplitz factor, by two other optimisers."""

falling = st.lists(st.floats(0, 1), min_size=0, max_size=4).map(lambda rest: (1.0, *sorted(rest, reverse=True)))


def matrix(factor: Factor) -> np.ndarray:
    """Return C (steps, steps)."""
    found = np.zeros((factor.steps, factor.steps))
    for age, coefficient in enumerate(factor.coefficients[: factor.steps]):
        found += coefficient * np.eye(factor.steps, k=-age)
    return found


@lru_cache
def patterns(steps: int, separation: int) -> list[tuple[int, ...]]:
    """Return every set of steps in which a user may take part, at least `separation` apart."""
    every = itertools.chain.from_iterable(itertools.combinations(range(steps), k) for k in range(steps + 1))
    return [some for some in every if all(b - a >= separation for a, b in itertools.pairwise(some))]


@pytest.mark.parametrize(("steps", "participations"), PUBLISHED)
def test_the_error_is_the_published_one(steps: int, participations: int) -> None:
    factor = optimal(steps, steps // participations)
    assert factor.error == pytest.approx(PUBLISHED[steps, participations], rel=1e-3)
    c = matrix(factor)
    rows = np.linalg.norm(np.tril(np.ones(c.shape)) @ np.linalg.inv(c), axis=1)
    assert factor.error == pytest.approx(np.sqrt(np.mean(rows**2)) * factor.sensitivity, rel=1e-9)
    assert factor.spread == pytest.approx(np.linalg.norm(np.linalg.inv(c), axis=1))


def test_no_gain_at_full_participation_and_none_lost() -> None:
    factor = optimal(40, 1)
    assert factor.coefficients == (1.0,)
    assert factor.error == pytest.approx(independent_error(40, 40))


@pytest.mark.parametrize(("steps", "separation"), [(12, 3), (30, 6), (7, 7)])
def test_no_other_factor_near_the_optimum_is_better(steps: int, separation: int) -> None:
    best, draw = optimal(steps, separation), np.random.default_rng(1)
    for _ in range(50):
        moved = np.array(best.coefficients[1:]) + 0.02 * draw.normal(size=separation - 1)
        other = Factor((1.0, *np.minimum.accumulate(np.clip(moved, 0, 1))), steps)
        assert other.error >= best.error - 1e-6


@given(falling, st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_the_sensitivity_is_that_of_the_worst_pattern(coefficients: tuple[float, ...], steps: int) -> None:
    """Columns of one pattern do not overlap, so no signs or directions of contributions add more."""
    factor = Factor(coefficients, steps)
    c = matrix(factor)
    worst = max(np.linalg.norm(c[:, list(some)].sum(1)) for some in patterns(steps, len(coefficients)))
    assert factor.sensitivity == pytest.approx(worst, rel=1e-12)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_neighbouring_streams_differ_by_at_most_the_charge_up_to_any_step(data: st.DataObject) -> None:
    factor = optimal(12, data.draw(st.integers(1, 5)))
    some = data.draw(st.sampled_from(patterns(12, len(factor.coefficients))))
    vectors = np.random.default_rng(data.draw(st.integers(0, 999))).normal(size=(12, 3))
    vectors *= np.isin(np.arange(12), some)[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)  # norm: the clip
    shifts = np.square(matrix(factor) @ vectors).sum(1)
    for steps in range(13):
        assert shifts[:steps].sum() <= factor.squared_sensitivity(steps) * (1 + 1e-12)
    assert all(shifts <= 1 + 1e-12)


def test_a_user_who_takes_part_too_early_moves_a_stream_by_more() -> None:
    factor = optimal(12, 4)
    early = matrix(factor)[:, [0, 3, 6, 9]].sum(1)
    assert np.linalg.norm(early) > 1.2 * factor.sensitivity


@pytest.mark.parametrize("coefficients", [(), (0.9,), (1.0, 0.3, 0.4), (1.0, -0.1), (1.0, float("nan"))])
def test_coefficients_that_the_proof_does_not_cover_are_refused(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(PrivacyError, match="begin with 1 and never rise"):
        Factor(coefficients, 5)


def test_a_stream_shorter_than_the_separation_is_refused() -> None:
    with pytest.raises(PrivacyError, match="a stream of 3 rounds needs 1 to 3"):
        optimal(3, 4)
