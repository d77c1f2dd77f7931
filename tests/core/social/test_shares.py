"""Shares with friends: clip, noise, price and refusals, with the attacks that each of them is for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedrec.errors import BudgetExhausted, InputError
from fedrec.privacy.accounting import gaussian_epsilon
from fedrec.privacy.discrete.stream import WordStream
from fedrec.social.blend import bonus, friends_taste, taste
from fedrec.social.shares import Share, ShareTerms, clipped, fault, share
from fedrec.social.simulation import measure

SPACE = "ab" * 32
TERMS = ShareTerms(SPACE, 4, 1.0, 2.0, 1e-5)


def words() -> WordStream:
    return WordStream.seeded("7")


def paid(_: ShareTerms) -> int:
    return 1


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, 5, elements=st.floats(width=64)),
    st.floats(1e-6, 1e6),
)
def test_no_vector_exceeds_the_clip(vector: np.ndarray, clip: float) -> None:
    found = clipped(vector, clip)
    assert np.isfinite(found).all()
    assert math.hypot(*found) <= clip
    if np.isfinite(vector).all() and math.hypot(*vector) < clip / 2:
        assert np.allclose(found, vector)


@pytest.mark.parametrize("vector", [[0.0] * 4, [math.nan, 1, 1, 1], [math.inf, 0, 0, 0], [1e308] * 4, [5e-324] * 4])
def test_odd_vectors_are_released_with_noise_and_a_price(vector: list[float]) -> None:
    charged: list[ShareTerms] = []

    def pay(terms: ShareTerms) -> int:
        charged.append(terms)
        return 5

    found = share(np.array(vector), TERMS, pay, words())
    assert np.isfinite(found.vector).all()
    assert found.vector.any()
    assert (charged, found.made) == ([TERMS], 5)


def noise_fits(std: float, measured: np.ndarray) -> bool:
    """Return whether the spread of (n,) noise is `std`, to five standard errors."""
    return abs(measured.std() / std - 1) < 5 / math.sqrt(2 * len(measured))


def test_noise_has_the_scale_that_the_epsilon_of_any_two_vectors_needs() -> None:
    terms = ShareTerms(SPACE, 4000, 0.5, 2.0, 1e-5)
    pole = np.zeros(4000)
    pole[0] = 9.0
    found = share(pole, terms, paid, words()).vector
    noise = found[1:]
    assert noise_fits(terms.std, noise)
    assert not noise_fits(terms.std * 2 / 3, noise)
    assert not noise_fits(terms.std * 3 / 2, noise)
    apart = float(np.linalg.norm(clipped(pole, 0.5) - clipped(-pole, 0.5)))  # the two vectors furthest from each other
    assert gaussian_epsilon(apart / terms.std, 1e-5) == pytest.approx(2.0, rel=1e-4)
    assert gaussian_epsilon(apart / terms.std, 1e-5) <= 2.0 * (1 + 1e-6)


def test_a_second_share_has_new_noise() -> None:
    stream = words()
    first, second = (share(np.ones(4), TERMS, paid, stream) for _ in range(2))
    assert not np.isclose(first.vector, second.vector).any()


def test_nothing_is_drawn_before_it_is_paid() -> None:
    class Watched(WordStream):
        drawn = 0

        def words(self, count: int) -> np.ndarray:
            self.drawn += 1
            return super().words(count)

    def exhausted(_: ShareTerms) -> int:
        raise BudgetExhausted("no more")

    source = Watched(bytes(32), "here")
    with pytest.raises(BudgetExhausted):
        share(np.ones(4), TERMS, exhausted, source)
    with pytest.raises(InputError, match=r"\(5,\)"):
        share(np.ones(5), TERMS, paid, source)
    assert source.drawn == 0


def test_an_honest_share_passes_and_one_that_is_longer_than_clip_and_noise_does_not() -> None:
    stream = words()
    for scale in (0.0, 1.0, 1e9):
        made_here = share(np.full(4, scale), TERMS, paid, stream)
        assert not fault(made_here)
        assert "length" in fault(Share(TERMS, 1, made_here.vector + 30 * TERMS.std))
    with pytest.raises(InputError, match="leave one friend out: its vector has the length"):
        bonus(np.zeros(4), np.eye(4), [made([1e6, 0, 0, 0])], SPACE)


@pytest.mark.parametrize(
    "changed", [{"epsilon": 0.0}, {"epsilon": math.inf}, {"epsilon": math.nan}, {"clip": 0.0}, {"clip": math.nan},
                {"delta": 0.0}, {"delta": 1.0}, {"width": 0}],
)  # fmt: skip
def test_terms_that_protect_nobody_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(InputError, match="share: "):
        ShareTerms(**{"space": SPACE, "width": 4, "clip": 1.0, "epsilon": 1.0, "delta": 1e-5, **changed})  # type: ignore[arg-type]


def made(vector: list[float], terms: ShareTerms = TERMS) -> Share:
    return Share(terms, 1, np.array(vector))


def test_friends_are_blended_from_shares_of_this_model_alone() -> None:
    items, own = np.eye(4), np.zeros(4)
    for wrong, expected in (
        (np.ones(4), "ndarray is no share"),
        (made([1, 1, 1, 1], ShareTerms("cd" * 32, 4, 1.0, 2.0, 1e-5)), "share is of model cdcd"),
        (made([math.nan, 1, 1, 1]), "not finite"),
    ):
        with pytest.raises(InputError, match=expected):
            bonus(own, items, [wrong], SPACE)  # type: ignore[list-item]
    with pytest.raises(InputError, match="different terms"):
        bonus(own, items, [made([1, 1, 1, 1]), made([1, 1, 1, 1], ShareTerms(SPACE, 4, 2.0, 2.0, 1e-5))], SPACE)


def test_a_claim_of_little_noise_gains_no_weight_over_other_friends() -> None:
    loud = ShareTerms(SPACE, 4, 1.0, 100.0, 1e-5)
    mean, _ = friends_taste([made([1, 0, 0, 0]), made([0, 1, 0, 0], loud)], SPACE)
    assert mean.tolist() == [0.5, 0.5, 0, 0]


def test_noise_is_weighed_down_and_no_share_moves_more_than_the_own_scores_differ() -> None:
    own, items = np.array([0.0, 1, 0, 0]), np.eye(4)
    mean, one = friends_taste([made([4, 0, 0, 0])], SPACE)
    _, ten = friends_taste([made([4, 0, 0, 0])] * 10, SPACE)
    assert mean.tolist() == [4, 0, 0, 0]
    assert 0 < one < ten < 1
    assert one == pytest.approx(1 / (1 + 4 * TERMS.std**2))
    found = bonus(own, items, [made([4, 0, 0, 0])], SPACE, 0.5)
    assert np.allclose(found, 0.5 * one * np.array([0.75, -0.25, -0.25, -0.25]))
    assert found.std() == pytest.approx(0.5 * one * own.std())
    assert np.allclose(found, bonus(own, 7 * items, [made([0.01, 0, 0, 0])], SPACE, 0.5))
    assert not bonus(own, items, [made([0, 0, 0, 0])], SPACE).any()


def test_a_taste_has_length_one_however_long_the_history_is() -> None:
    rows = np.array([[3.0, 0, 0, 0], [0, 0.1, 0, 0], [0, 0, 0, 0]])
    assert np.allclose(taste(rows), [0.5**0.5, 0.5**0.5, 0, 0])
    assert not taste(rows[:0]).any()


def test_the_simulation_repeats_and_shows_the_price_of_noise() -> None:
    few = measure(100.0, friends=4, users=25, seed=1)
    assert few == measure(100.0, friends=4, users=25, seed=1)
    assert few.clear == measure(0.01, friends=4, users=25, seed=1).clear  # the same people, whatever the noise
    assert few.shared > measure(0.01, friends=4, users=25, seed=1).shared - 1e-9
