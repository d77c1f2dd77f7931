"""Privacy filters: never more than their formula, exact where one run is all, and sound for sampled rounds."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis import rdp

from fedrec.errors import PrivacyError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import GRID, Filter, best_order, least_cap
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery

CAPS = st.tuples(st.floats(0.05, 20), st.sampled_from([1e-5, 1e-7, 1e-10]))
EVENTS = st.lists(
    st.builds(Event, st.sampled_from([1.0, 0.5, 0.01]), st.floats(0.3, 300), st.integers(1, 50)), min_size=1, max_size=5
)


def slow_rdp(q: float, z: float, order: int) -> Decimal:
    """The sampled Gaussian's RDP at a whole order, term by term with 60 digits (Mironov et al. 2019, section 3.3)."""
    with localcontext() as context:
        context.prec = 60
        q_, z_ = Decimal(q), Decimal(z)
        terms = (
            math.comb(order, k) * q_**k * (1 - q_) ** (order - k) * ((k * k - k) / (2 * z_ * z_)).exp()
            for k in range(order + 1)
        )
        return sum(terms, Decimal(0)).ln() / (order - 1)


@given(CAPS)
@settings(deadline=None)
def test_the_gdp_limit_is_the_exact_gaussian(cap):
    epsilon, delta = cap
    mu = math.sqrt(Filter.make("gdp", epsilon, delta).limit / GRID)
    assert epsilon * (1 - 1e-6) < accounting.gaussian_epsilon(mu, delta) <= epsilon


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 4.0, 8.0])
@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.3, 0.2], [0.01] * 100], ids=len)
def test_one_run_of_the_caps_own_epsilon_just_fits(epsilon, shares):
    def cost(epsilon: float) -> int:
        rounds = [(SumQuery("sum", (2,), 1.0, share),) for share in shares]
        plan = PrivacyPlan.build(PrivacyConfig(epsilon=epsilon, delta=1e-5), rounds, 100, None)
        return cap.cost(plan.planned)

    cap = Filter.make("gdp", epsilon, 1e-5)
    assert cost(epsilon) <= cap.limit < cost(epsilon * 1.003)


@given(CAPS)
@settings(deadline=None)
def test_the_renyi_filter_admits_no_more_than_its_formula(cap):
    epsilon, delta = cap
    try:
        rule = Filter.make("renyi", epsilon, delta)
    except PrivacyError:
        assert epsilon < 0.2
        return
    spent, _ = rdp.get_privacy_spent(orders=rule.order, rdp=rule.limit / GRID, delta=delta)
    assert epsilon * (1 - 1e-6) < spent <= epsilon


@pytest.mark.parametrize("q", [1e-5, 0.01, 0.3, 0.99])
@pytest.mark.parametrize("z", [0.3, 1.0, 20.0, 200.0])
@pytest.mark.parametrize("order", [2, 7, 60])
def test_a_sampled_round_is_never_priced_below_its_renyi_divergence(q, z, order):
    rule = Filter("renyi", 50.0, 1e-5, order)
    cost = Decimal(rule.cost([Event(q, z)])) / GRID
    exact = min(slow_rdp(q, z, order), Decimal(order) / 2 / Decimal(z) ** 2)
    assert exact <= cost <= exact * (1 + Decimal("1e-8")) + Decimal("2e-12")


def test_a_gdp_filter_counts_no_amplification():
    rule = Filter.make("gdp", 1.0, 1e-5)
    assert rule.cost([Event(0.01, 2.0, 3)]) == rule.cost([Event(1.0, 2.0, 3)]) == 3 * GRID // 4


@given(EVENTS, st.sampled_from(["gdp", "renyi"]), st.integers(2, 9))
@settings(deadline=None)
def test_an_event_n_times_equals_count_n_and_costs_only_grow(events, name, times):
    rule = Filter.make(name, 5.0, 1e-5)
    counted = [Event(event.sampling, event.noise_multiplier, event.count * times) for event in events]
    assert rule.cost(events * times) == rule.cost(counted)
    assert rule.cost(events) < rule.cost(events * times)
    assert rule.cost([*events, Event(1.0, 1e3)]) > rule.cost(events)


@given(EVENTS, st.sampled_from(["gdp", "renyi"]))
@settings(deadline=None)
def test_parts_never_cost_less_than_the_whole(events, name):
    """The separate reservations of runs cover their union, because rounding is up."""
    rule = Filter.make(name, 5.0, 1e-5)
    assert sum(rule.cost([event]) for event in events) >= rule.cost(events)
    exact = sum(Fraction(event.count) / Fraction(event.noise_multiplier) ** 2 for event in events)
    if name == "gdp":
        assert exact <= Fraction(rule.cost(events), GRID) <= exact + Fraction(len(events), GRID)


@given(EVENTS.filter(lambda events: sum(e.count / e.noise_multiplier**2 for e in events) < 50))
@settings(deadline=None, max_examples=30)
def test_the_least_cap_is_the_least(events):
    delta = 1e-5
    cap = least_cap("gdp", events, delta)
    if cap < 1e-4:  # so little is released that delta alone covers it
        return
    assert Filter.make("gdp", cap * (1 + 1e-6), delta).limit >= Filter.make("gdp", cap, delta).cost(events) - 2
    assert Filter.make("gdp", cap * (1 - 1e-4), delta).limit < Filter.make("gdp", cap, delta).cost(events)
    plain = [Event(1.0, event.noise_multiplier, event.count) for event in events]
    assert least_cap("renyi", plain, delta) >= least_cap("gdp", plain, delta) * (1 - 1e-6)


def test_composition_afterwards_lies_below_what_a_renyi_filter_needs():
    events = [Event(0.1, 1.5, 200), Event(1.0, 20.0, 3)]
    assert accounting.epsilon_pld(events, 1e-5) < least_cap("renyi", events, 1e-5) < least_cap("gdp", events, 1e-5)


@pytest.mark.parametrize("name", ["gdp", "renyi"])
def test_what_is_left_tells_the_run_that_still_fits(name):
    rule = Filter.make(name, 3.0, 1e-5)
    epsilon = rule.run_epsilon(rule.limit // 3)
    plan = PrivacyPlan.build(
        PrivacyConfig(epsilon=epsilon, delta=1e-5), [(SumQuery("sum", (1,), 1.0, 1.0),)], 100, None
    )
    assert rule.cost(plan.planned) <= rule.limit // 3
    assert rule.run_epsilon(0) == 0


@pytest.mark.parametrize(
    ("name", "epsilon", "delta", "order", "message"),
    [
        ("pld", 1.0, 1e-5, None, "unknown"),
        ("gdp", math.inf, 1e-5, None, "positive number"),
        ("gdp", 0.0, 1e-5, None, "positive number"),
        ("gdp", 1.0, 1.0, None, "between 0 and 1"),
        ("gdp", 1.0, 1e-5, 8, "no order"),
        ("renyi", 1.0, 1e-5, 1, "whole order"),
        ("renyi", 1.0, 1e-5, 5000, "whole order"),
        ("renyi", 1.0, 1e-5, 3, f"take {best_order(1.0, 1e-5)}"),
    ],
)
def test_a_filter_that_proves_nothing_is_refused(name, epsilon, delta, order, message):
    with pytest.raises(PrivacyError, match=message):
        Filter.make(name, epsilon, delta, order)
