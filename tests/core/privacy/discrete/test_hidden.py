"""Secret coins: the bound lies above the Renyi divergence that is added up number by number, in both directions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive, logsumexp

from fedrec.audit.accountant import skellam as auditor
from fedrec.privacy.discrete import hidden, renyi
from fedrec.privacy.discrete.renyi import SkellamEvent


def logs(shift: int, variance: float, reach: int) -> np.ndarray:
    """Logarithms of the probabilities of `shift` plus Skellam noise on -reach..reach."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(ive(np.abs(np.arange(-reach, reach + 1) - shift), variance))
    return found


def exact(shift: int, variance: float, sampling: float, order: int) -> tuple[float, float]:
    """Renyi divergences of one user's whole number with a coin, one user more and one less, by direct summation."""
    reach = int(60 + 40 * math.sqrt(variance) + 8 * shift)
    without, whole = logs(0, variance, reach), logs(shift, variance, reach)
    seen = np.isfinite(without) & np.isfinite(whole)
    without, whole = without[seen], whole[seen]
    mixed = np.logaddexp(math.log1p(-sampling) + without, math.log(sampling) + whole)
    more = logsumexp(order * mixed + (1 - order) * without) / (order - 1)
    less = logsumexp(order * without + (1 - order) * mixed) / (order - 1)
    return float(more), float(less)


@settings(max_examples=100, deadline=None)
@given(
    shift=st.integers(1, 6),
    variance=st.floats(0.3, 400),
    sampling=st.floats(1e-3, 0.999),
    order=st.sampled_from([2, 3, 4, 7, 16, 40]),
)
def test_the_bound_lies_above_both_directions(shift: int, variance: float, sampling: float, order: int) -> None:
    more, less = exact(shift, variance, sampling, order)
    (bound,) = hidden.renyi([SkellamEvent(variance, shift**2, shift**2)], sampling, (order,))
    assert less <= more + 1e-12
    assert more <= bound + 1e-12


def test_the_bound_is_close_to_the_divergence_where_skellam_noise_is_close_to_gaussian() -> None:
    more, _ = exact(3, 10_000.0, 0.1, 8)
    (bound,) = hidden.renyi([SkellamEvent(10_000.0, 9, 9)], 0.1, (8,))
    assert more <= bound <= more * 1.01


def test_two_queries_of_a_round_share_one_coin() -> None:
    """One number told twice under one coin. Priced as two coins, its divergence would lie above the price."""
    order, sampling, variance, reach = 8, 0.02, 8.0, 60
    without, whole = logs(0, variance, reach), logs(3, variance, reach)
    pair = np.add.outer(without, without).ravel(), np.add.outer(whole, whole).ravel()
    mixed = np.logaddexp(math.log1p(-sampling) + pair[0], math.log(sampling) + pair[1])
    seen = np.isfinite(mixed) & np.isfinite(pair[0])
    more = logsumexp(order * mixed[seen] + (1 - order) * pair[0][seen]) / (order - 1)
    event = SkellamEvent(variance, 9, 9)
    together = hidden.renyi([event, event], sampling, (order,))[0]
    assert 2 * exact(3, variance, sampling, order)[0] < more <= together


@given(sampling=st.floats(1e-4, 0.999), variance=st.floats(10.0, 1e9))
@settings(max_examples=12, deadline=None)
def test_coins_never_cost_and_less_of_them_costs_less(sampling: float, variance: float) -> None:
    event = SkellamEvent(variance, 100, 100)
    whole = np.array([event.rdp(order) for order in hidden.ORDERS])
    found = hidden.renyi([event], sampling)
    assert np.all(found <= whole * (1 + 1e-8))
    assert np.all(hidden.renyi([event], sampling / 2) <= found * (1 + 1e-12))


def test_the_auditor_recomputes_the_same_epsilon_by_other_code() -> None:
    rng = np.random.default_rng(4)
    for sampling in (0.003, 0.1, 0.6):
        rounds = [[SkellamEvent(float(v), 900, 700) for v in rng.uniform(3e2, 3e5, size=2)] for _ in range(5)] * 4
        ours = hidden.epsilon(rounds, sampling, 1e-5)
        releases = [[(event.variance, event.squared, event.absolute, 1) for event in each] for each in rounds]
        theirs = auditor.curve(releases, 1e-5, sampling).epsilon
        assert theirs[-1] * (1 - 1e-9) <= ours <= theirs[-1] * 1.01
        assert np.all(np.diff(theirs) >= 0)


def test_without_a_release_nothing_is_spent() -> None:
    assert hidden.epsilon([[], []], 0.1, 1e-5) == 0.0
    assert auditor.curve([[], []], 1e-5, 0.1).epsilon[-1] == 0.0


def test_gaussian_rounds_agree_with_opacus() -> None:
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = np.arange(hidden.LARGEST_ORDER + 1)
    ours = hidden.amplified(np.where(orders > 1, orders, 0) / (2 * 1.3**2), 0.05, (2, 5, 32, 200))
    theirs = compute_rdp(q=0.05, noise_multiplier=1.3, steps=1, orders=[2, 5, 32, 200])
    assert ours == pytest.approx(theirs, rel=1e-7)


def test_the_least_gaussian_factor_is_the_least() -> None:
    shares = [0.1] * 10
    factor = hidden.least_factor(shares, 0.1, 2.0, 1e-5)
    at = [hidden.gaussian_epsilon([share / (factor * by) ** 2 for share in shares], 0.1, 1e-5) for by in (1, 0.99)]
    assert at[0] <= 2.0 < at[1]
    assert factor < 0.5 * math.sqrt(10 * 0.1) / 0.2
    assert renyi.gaussian_epsilon(1 / factor**2, 1e-5) > 2.0


def test_an_epsilon_below_what_the_orders_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="no noise reaches"):
        hidden.least_factor([1.0], 0.1, 1e-4, 1e-5)
