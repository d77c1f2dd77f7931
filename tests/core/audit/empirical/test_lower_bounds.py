"""Lower bounds on epsilon: below the truth as often as they say, tight with many samples; a bad one is seen."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from fedrec.audit.empirical.lower_bounds import (
    GUESSED,
    best_one_run,
    best_two_sided,
    errors_at,
    gaussian_mu_bound,
    one_run_epsilon,
    one_run_p_value,
    rate_above,
    rate_between,
    surest_guesses,
    two_sided_epsilon,
)
from fedrec.audit.empirical.one_shot import normal_pair_epsilon, one_shot_estimate
from fedrec.privacy.accounting import gaussian_epsilon

TRIALS, CANARIES, DELTA = 200, 400, 1e-5
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 2.0)
TOLERATED = int(binom.ppf(0.9999, TRIALS, 0.05))
"""Bounds that hold in 95 % of trials fail more often than this once in ten thousand tests."""


def laplace_scores(epsilon: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Randomised response: the mechanism with pure epsilon that is worst for the guesser's victims."""
    coins = rng.random(CANARIES) < 0.5
    told = np.where(rng.random(CANARIES) < 1 / (1 + math.exp(-epsilon)), coins, ~coins)
    return np.where(told, epsilon, -epsilon) + 1e-3 * rng.random(CANARIES), coins


def gaussian_scores(mu: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The log likelihood ratio of a Gaussian mechanism."""
    coins = rng.random(CANARIES) < 0.5
    return mu * (mu * coins + rng.standard_normal(CANARIES)) - mu**2 / 2, coins


def too_high(bound: Callable[[np.ndarray, np.ndarray], float], scores, truth: float, factor: float = 1.0) -> int:
    """Count the trials in which `factor` times the bound is above the true epsilon."""
    rng = np.random.default_rng(7)
    return sum(factor * bound(*scores(rng)) > truth for _ in range(TRIALS))


def two_sided(scores, coins):
    return best_two_sided(scores, coins, THRESHOLDS, DELTA, 0.95)


def one_run(scores, coins):
    return best_one_run(scores, coins, DELTA, 0.95)[0]


def gaussian(scores, coins):
    return gaussian_epsilon(gaussian_mu_bound(len(scores), int(((scores > 0) == coins).sum())), DELTA)


def plug_in(scores, coins):
    """Return a value that is NOT a lower bound: the observed rates, without their uncertainty."""
    false, out, true, inside = errors_at(scores, coins, 0.0)
    return math.log((true / inside) / (false / out))


@pytest.mark.parametrize("bound", [two_sided, one_run])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_bounds_on_randomised_response_hold_as_often_as_they_say(bound, epsilon):
    assert too_high(bound, lambda rng: laplace_scores(epsilon, rng), epsilon) <= TOLERATED


@pytest.mark.parametrize("bound", [two_sided, one_run, gaussian])
@pytest.mark.parametrize("mu", [0.3, 0.93, 2.0])
def test_bounds_on_the_gaussian_mechanism_hold_as_often_as_they_say(bound, mu):
    truth = gaussian_epsilon(mu, DELTA)
    assert too_high(bound, lambda rng: gaussian_scores(mu, rng), truth) <= TOLERATED


def test_the_test_rejects_an_estimator_that_is_off():
    assert too_high(plug_in, lambda rng: laplace_scores(1.0, rng), 1.0) > TOLERATED
    truth = gaussian_epsilon(0.93, DELTA)
    assert too_high(gaussian, lambda rng: gaussian_scores(0.93, rng), truth, factor=1.25) > TOLERATED
    assert too_high(one_run, lambda rng: laplace_scores(1.0, rng), 1.0, factor=1.4) > TOLERATED


def test_bounds_become_tight_with_many_samples():
    many, right = 10**6, 1 / (1 + math.exp(-1.0))
    correct = round(right * many)
    assert 0.98 < one_run_epsilon(many, many, correct, 0.0) < 1
    wrong = many - correct
    assert 0.98 < two_sided_epsilon(wrong, many, correct, many, 0.0) < 1
    assert 0.98 < gaussian_mu_bound(many, round(norm.cdf(0.5) * many)) < 1


def test_one_run_agrees_with_the_published_example():
    assert one_run_epsilon(1000, 100, 75, 1e-4, 0.95) == pytest.approx(0.673, abs=5e-4)  # its appendix D


def test_one_run_against_a_slow_oracle():
    canaries, guesses, correct, epsilon, delta = 50, 20, 16, 0.7, 1e-3
    right = 1 / (1 + math.exp(-epsilon))
    mass = [math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(guesses + 1)]
    alpha = max(sum(mass[correct - i : correct]) / i for i in range(1, correct + 1))
    expected = sum(mass[correct:]) + 2 * canaries * delta * alpha
    assert one_run_p_value(canaries, guesses, correct, epsilon, delta) == pytest.approx(expected, rel=1e-10)


@given(st.integers(1, 300), st.data())
def test_one_run_is_monotone(guesses, data):
    correct = data.draw(st.integers(0, guesses))
    p = [one_run_p_value(300, guesses, correct, epsilon, DELTA) for epsilon in (0.0, 0.5, 1.0, 4.0)]
    assert p == sorted(p)
    assert one_run_epsilon(300, guesses, correct, DELTA) <= one_run_epsilon(300, guesses, min(correct + 1, guesses), 0)


def test_a_coin_tosser_shows_nothing():
    assert one_run_epsilon(1000, 1000, 500, DELTA) == 0
    assert two_sided_epsilon(250, 500, 250, 500, DELTA) == 0
    assert gaussian_mu_bound(1000, 500) == 0
    assert two_sided_epsilon(0, 0, 0, 0, DELTA) == 0


def test_rates_cover():
    assert rate_above(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert rate_between(0, 0, 0.05) == (0.0, 1.0)
    low, high = rate_between(30, 100, 0.05)
    assert (low, high) == pytest.approx((0.2124, 0.3998), abs=1e-3)  # R's binom.test(30, 100)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="correct <= guesses"):
        one_run_p_value(10, 5, 6, 1.0, 0.0)


def test_surest_guesses_are_the_outermost():
    scores, coins = np.array([3.0, -3.0, 0.1, -0.1]), np.array([True, False, False, True])
    assert surest_guesses(scores, coins, 2) == 2
    assert surest_guesses(scores, coins, 4) == 2
    assert max(GUESSED) == 1


@pytest.mark.parametrize("mu", [0.1, 0.93, 3.0, 12.0])
def test_epsilon_between_normals_is_that_of_the_gaussian_mechanism(mu):
    assert normal_pair_epsilon((0, 1), (mu, 1), DELTA) == pytest.approx(gaussian_epsilon(mu, DELTA), rel=1e-6)
    assert normal_pair_epsilon((5, 2), (5 + 2 * mu, 2), DELTA) == pytest.approx(gaussian_epsilon(mu, DELTA), rel=1e-6)


def test_epsilon_between_normals_of_unequal_spread_against_integration():
    x = np.linspace(-40, 40, 2_000_001)
    p, q = norm.pdf(x, 0.5, 1.2), norm.pdf(x)
    for one, other in ((p, q), (q, p)):
        assert np.trapezoid(one, x) == pytest.approx(1)
        assert other.min() >= 0
    epsilon = normal_pair_epsilon((0, 1), (0.5, 1.2), 1e-3)
    left = max(np.trapezoid(np.maximum(a - math.exp(epsilon) * b, 0), x) for a, b in ((p, q), (q, p)))
    assert left == pytest.approx(1e-3, rel=1e-4)
    assert normal_pair_epsilon((1, 1), (1, 1), DELTA) == 0


def test_the_one_shot_estimate_nears_the_truth_and_is_no_bound():
    rng, mu, size = np.random.default_rng(0), 1.0, 4000
    truth = gaussian_epsilon(mu, DELTA)
    estimates = [one_shot_estimate(rng.normal(mu, 1, size), 1.0, DELTA) for _ in range(40)]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.1)
    assert min(estimates) < truth < max(estimates), "it errs on both sides, and says so"
    with pytest.raises(ValueError, match="at least two"):
        one_shot_estimate(np.ones(1), 1.0, DELTA)
