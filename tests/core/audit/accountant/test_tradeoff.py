"""The best attacker: the closed form against a simulated likelihood-ratio test, and bounds against the closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrec.audit.accountant.tradeoff import Tradeoff, certainty, envelope, grid, total_variation
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event

MU = 0.8


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The least delta of Gaussian releases with total signal-to-noise `mu` at an epsilon (Balle & Wang 2018)."""
    high, low = (math.erfc(-x / math.sqrt(2)) / 2 for x in (mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu))
    return max(0.0, high - math.exp(epsilon) * low)


def test_the_curve_is_what_the_likelihood_ratio_test_reaches() -> None:
    rng = np.random.default_rng(0)
    absent, present = rng.normal(size=400_000), rng.normal(MU, size=400_000)
    for threshold in (-1.0, 0.0, 0.7, 2.0):
        fpr, tpr = float((absent > threshold).mean()), float((present > threshold).mean())
        assert Tradeoff(mu=MU).tpr(fpr) == pytest.approx(tpr, abs=4e-3)
        assert Tradeoff(mu=1.5 * MU).tpr(fpr) > tpr + 2e-3, "a test that cannot tell 3/2 of the signal is none"
    right = ((absent < MU / 2).mean() + (present > MU / 2).mean()) / 2
    assert Tradeoff(mu=MU).best_guess() == pytest.approx(float(right), abs=2e-3)


@pytest.mark.parametrize("sampling", [1.0, 0.2])
def test_pairs_of_epsilon_and_delta_bound_what_is_known_exactly(sampling: float) -> None:
    events = [Event(sampling, 2.0, 3)]
    epsilons = [0.05 * step for step in range(60)]
    bound = Tradeoff(bounds=tuple(zip(epsilons, accounting.deltas_pld(events, epsilons), strict=True)))
    everybody = Tradeoff(mu=math.sqrt(3) / 2.0)
    for fpr in (0.001, 0.05, 0.3, 0.9):
        if sampling == 1:
            assert everybody.tpr(fpr) <= bound.tpr(fpr) <= everybody.tpr(fpr) + 2e-3
        else:
            assert fpr < bound.tpr(fpr) < everybody.tpr(fpr), "sampling helps"
    assert bound.best_guess() <= everybody.best_guess() + 1e-3


@given(st.floats(0, 30), st.floats(1e-9, 0.4), st.floats(0, 1))
def test_the_envelope_is_a_bound_between_chance_and_certainty(epsilon: float, delta: float, fpr: float) -> None:
    tpr = envelope(epsilon, delta, fpr)
    assert min(fpr, 1.0) - 1e-12 <= tpr <= 1
    assert tpr <= math.exp(epsilon) * fpr + delta + 1e-12
    assert tpr - fpr <= total_variation(epsilon, delta) + 1e-9


@given(st.floats(0.01, 5), st.floats(0, 1))
def test_the_gaussian_curve_keeps_within_its_own_epsilon_and_delta(mu: float, fpr: float) -> None:
    for epsilon in (0.1, 1.0, 4.0):
        assert Tradeoff(mu=mu).tpr(fpr) <= envelope(epsilon, gaussian_delta(mu, epsilon), fpr) + 1e-9


def test_delta_is_the_one_of_the_accountants() -> None:
    for epsilon, delta in ((0.5, 1e-6), (4.0, 1e-5), (20.0, 1e-9)):
        assert gaussian_delta(accounting.gaussian_mu(epsilon, delta), epsilon) == pytest.approx(delta, rel=1e-3)


def test_no_signal_is_guessing_and_no_bound_is_certainty() -> None:
    assert Tradeoff(mu=0.0).tpr(0.3) == pytest.approx(0.3)
    assert Tradeoff(mu=0.0).best_guess() == 0.5
    assert Tradeoff().tpr(0.0) == 1.0
    assert Tradeoff().best_guess() == 1.0
    assert certainty(0.0, 0.0, 0.2) == 0.2
    assert certainty(0.5, 0.5, 0.2) == pytest.approx(0.2)
    assert certainty(0.9, 0.1, 0.5) == pytest.approx(0.9)


def test_the_grid_is_ascending_and_whole() -> None:
    found = list(grid())
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (0.0, 1.0)
