"""The accountants: published values, composition, order, and the calibration on a grid of plans."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import PrivacyError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import (
    Event,
    calibrate,
    epsilon_pld,
    epsilon_prv,
    epsilon_rdp,
    gaussian_epsilon,
    gaussian_mu,
)

DELTA = 1e-5
SAMPLED = Event(sampling=0.01, noise_multiplier=1.0, count=1000)
PLAIN = Event(sampling=1.0, noise_multiplier=10.0, count=20)


def test_published_values_of_each_accountant() -> None:
    assert epsilon_rdp([SAMPLED], DELTA) == pytest.approx(2.10137, rel=2e-3)
    assert epsilon_prv([SAMPLED], DELTA) == pytest.approx(1.83837, rel=1e-3)
    assert epsilon_pld([SAMPLED], DELTA, 1e-4) == pytest.approx(1.82824, rel=1e-5)
    assert epsilon_rdp([PLAIN], DELTA) == pytest.approx(1.91425, rel=2e-3)
    assert epsilon_prv([PLAIN], DELTA) == pytest.approx(1.77017, rel=1e-3)
    assert epsilon_pld([PLAIN], DELTA, 1e-4) == pytest.approx(1.760057, rel=1e-5)
    assert gaussian_epsilon(math.sqrt(20) / 10, DELTA) == pytest.approx(1.760057, rel=1e-6)


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.1422), (1, 0.2681), (3, 0.7191), (8, 1.666)])
def test_mu_of_epsilon(epsilon: float, mu: float) -> None:
    assert gaussian_mu(epsilon, DELTA) == pytest.approx(mu, abs=6e-5 * max(1, mu * 10))
    assert gaussian_epsilon(gaussian_mu(epsilon, DELTA), DELTA) == pytest.approx(epsilon, rel=1e-8)


@pytest.mark.parametrize("accountant", [epsilon_pld, epsilon_rdp, epsilon_prv])
@pytest.mark.parametrize("sampling", [0.05, 1.0])
def test_a_count_equals_that_many_events(accountant, sampling: float) -> None:
    many = [Event(sampling, 3.0)] * 7 + [Event(sampling, 5.0, 2)]
    counted = [Event(sampling, 5.0), Event(sampling, 3.0, 7), Event(sampling, 5.0)]
    assert accountant(many, DELTA) == accountant(counted, DELTA)
    assert accountant(counted, DELTA) > accountant([Event(sampling, 3.0, 7)], DELTA)


EVENTS = st.tuples(st.sampled_from([0.02, 0.3, 1.0]), st.sampled_from([1.5, 3.0, 8.0]), st.integers(1, 6))


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_composing_one_by_one_equals_the_count_to_the_last_digit(kinds: list[tuple[float, float, int]]) -> None:
    """Whatever was priced before: what is kept of one release is what would be made anew."""
    counted = [Event(q, z, count) for q, z, count in kinds]
    singly = [Event(q, z) for q, z, count in kinds for _ in range(count)]
    for accountant in (epsilon_pld, epsilon_rdp):
        found = accountant(singly, DELTA)
        assert found == accountant(counted, DELTA) == accountant(list(reversed(singly)), DELTA)
        for cache in (accounting._one_release, accounting._pld, accounting._rdp, accounting._renyi):
            cache.cache_clear()
        assert accountant(counted, DELTA) == found


def test_a_kind_of_release_is_made_once_for_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    real = accounting.privacy_loss_distribution.from_gaussian_mechanism

    def counting(noise: float, **options: object):
        made.append(noise)
        return real(noise, **options)

    monkeypatch.setattr(accounting.privacy_loss_distribution, "from_gaussian_mechanism", counting)
    accounting._one_release.cache_clear()
    for rounds in range(1, 30):
        epsilon_pld([Event(0.1, 7.03125), *[Event(0.1, 5.0625)] * rounds], DELTA, 1e-3)
    assert sorted(made) == [5.0625, 7.03125]


def test_merging_changes_no_epsilon() -> None:
    """Against dp-accounting composing one by one, without our merging."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    events = [Event(1.0, 8.0), Event(0.1, 2.0), Event(1.0, 20.0), Event(0.1, 2.0), Event(1.0, 8.0)]
    composed = pld.identity(value_discretization_interval=1e-4)
    for event in events:
        one = pld.from_gaussian_mechanism(
            event.noise_multiplier, value_discretization_interval=1e-4, sampling_prob=event.sampling
        )
        composed = composed.compose(one)
    assert epsilon_pld(events, DELTA, 1e-4) == pytest.approx(composed.get_epsilon_for_delta(DELTA), rel=1e-4)


@pytest.mark.parametrize("sampling", [0.003, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_renyi_agrees_with_its_integral(sampling: float, noise: float) -> None:
    ours = dict(zip(accounting.ORDERS, accounting._renyi(sampling, noise), strict=True))
    for order in (1.05, 1.5, 2.0, 3.3, 8.0, 20.0):
        x = np.linspace(-40 * noise, order + 40 * noise, 200_001)
        unsampled = (2 * x - 1) / (2 * noise**2)
        ratio = np.logaddexp(np.log1p(-sampling), np.log(sampling) + unsampled) if sampling < 1 else unsampled
        logs = order * ratio - x**2 / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))
        moment = logs.max() + math.log(np.trapezoid(np.exp(logs - logs.max()), x))
        assert ours[min(ours, key=lambda known: abs(known - order))] == pytest.approx(moment / (order - 1), rel=1e-4)


@pytest.mark.parametrize("sampling", [0.003, 0.1, 1.0])
@pytest.mark.parametrize("count", [1, 100])
def test_renyi_agrees_with_a_second_implementation(sampling: float, count: int) -> None:
    """dp-accounting leaves out orders whose series it cannot sum, so it may be a little above."""
    event = PoissonSampledDpEvent(sampling, GaussianDpEvent(2.0)) if sampling < 1 else GaussianDpEvent(2.0)
    orders = [order for order in accounting.ORDERS if order <= 1024 or sampling == 1]
    theirs = RdpAccountant(orders=orders).compose(event, count).get_epsilon(DELTA)
    assert theirs * 0.99 <= epsilon_rdp([Event(sampling, 2.0, count)], DELTA) <= theirs * (1 + 1e-4)


def test_renyi_orders_reach_small_epsilons() -> None:
    """Orders that end at 63 can show no epsilon below 0.1."""
    assert gaussian_epsilon(0.001, DELTA) < epsilon_rdp([Event(1.0, 1000.0)], DELTA) < 0.01


def test_nothing_costs_nothing() -> None:
    for accountant in (epsilon_pld, epsilon_rdp, epsilon_prv):
        assert accountant([], DELTA) == 0
        assert accountant([Event(1.0, 5.0)], 0.5) >= 0


@pytest.mark.parametrize("epsilon", [0.1, 1, 8])
@pytest.mark.parametrize("sampling", [1.0, 0.2, 0.01])
@pytest.mark.parametrize(
    "shares", [[1.0], [0.2, *[0.75 / 40] * 40, 0.05], [1 / 500] * 500], ids=["one", "uneven", "equal"]
)
def test_calibration_meets_the_target_and_never_passes_it(epsilon: float, sampling: float, shares: list[float]) -> None:
    factor = calibrate(shares, sampling, epsilon, DELTA)
    events = [Event(sampling, factor / math.sqrt(share)) for share in shares]
    spent = epsilon_pld(events, DELTA)
    assert epsilon * (1 - 1e-2) <= spent <= epsilon
    fine = epsilon_pld(events, DELTA, accounting.interval_for(events) / 3)
    assert fine <= spent * (1 + 1e-6)  # a finer grid is never less favourable: the coarse one rounds up
    assert spent / fine - 1 < 0.02
    if sampling == 1:
        exact = math.sqrt(math.fsum(shares)) / gaussian_mu(epsilon, DELTA)
        assert exact <= factor * (1 + 1e-9)
        assert factor == pytest.approx(exact, rel=1e-3)
    assert epsilon_rdp(events, DELTA) > spent * (1 - 1e-2)


@pytest.mark.parametrize("sampling", [1.0, 0.1])
def test_a_large_epsilon_is_calibrated_on_a_grid_of_bounded_size(sampling: float) -> None:
    factor = calibrate([1 / 12] * 12, sampling, 100, DELTA)
    events = [Event(sampling, factor * math.sqrt(12))] * 12
    assert 0.999 * 100 <= epsilon_pld(events, DELTA) <= 100
    loss = 0.5 / accounting.merge(events)[0].noise_multiplier ** 2
    assert loss / accounting.interval_for(events) <= accounting.MOST_POINTS * (1 + 1e-9)


def test_a_rare_sample_at_little_noise_has_a_grid_of_bounded_size() -> None:
    """A tenth of its typical loss would be 10^14 points."""
    event = Event(1e-12, 0.1)
    points = 150 / accounting.interval_for([event])  # 150: above the loss of a user who takes part, 15 deviations out
    assert points < 2 * accounting.FINEST
    assert accounting.interval_for([Event(0.01, 1.0)]) == accounting.COARSEST_INTERVAL


def test_who_takes_part_more_rarely_than_delta_is_no_reason_to_leave_out_the_noise() -> None:
    """Delta would cover every release of theirs, whatever it holds."""
    with pytest.raises(PrivacyError, match="with probability 9e-06, which delta 1e-05 would allow without any noise"):
        calibrate([1 / 3] * 3, 3e-6, 4.0, 1e-5)


def test_pld_is_never_below_the_exact_gaussian() -> None:
    for z in np.geomspace(0.3, 300, 25):
        exact = gaussian_epsilon(1 / z, DELTA)
        spent = epsilon_pld([Event(1.0, float(z))], DELTA)
        assert exact * (1 - 1e-7) <= spent <= exact * 1.002 + 1e-4


def test_full_participation_costs_more_than_sampling() -> None:
    noises = [calibrate([0.01] * 100, sampling, 1.0, DELTA) for sampling in (0.01, 0.1, 0.5, 1.0)]
    assert noises == sorted(noises)


@pytest.mark.parametrize(
    ("sampling", "noise", "count"),
    [(0, 1, 1), (1.1, 1, 1), (math.nan, 1, 1), (1, 0, 1), (1, 1e-4, 1), (1, math.inf, 1), (1, 1, 0)],
)
def test_impossible_events_are_refused(sampling: float, noise: float, count: int) -> None:
    with pytest.raises(PrivacyError, match="event: "):
        Event(sampling, noise, count)


@pytest.mark.parametrize("delta", [1e-50, 1e-300])
def test_a_delta_beyond_the_grid_is_calibrated_by_the_exact_gaussian(delta: float) -> None:
    """The grid's tails end near 1e-22, so that every noise seemed too little."""
    shares = [0.2, *[0.75 / 40] * 40, 0.05]
    factor = calibrate(shares, 1.0, 2.0, delta)
    assert factor == pytest.approx(math.sqrt(math.fsum(shares)) / gaussian_mu(2.0, delta), rel=2e-3)
    spent = epsilon_pld([Event(1.0, factor / math.sqrt(share)) for share in shares], delta)
    assert 0.99 * 2 < spent <= 2
    assert spent >= gaussian_epsilon(math.sqrt(math.fsum(shares)) / factor, delta)
    with pytest.raises(PrivacyError, match=r"privacy\.delta = 1e-.*take at least that, or privacy\.sampling = 1"):
        calibrate(shares, 0.1, 2.0, delta)
