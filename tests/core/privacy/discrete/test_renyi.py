"""The accountant of Skellam noise against the divergence itself, computed number by number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive, logsumexp

from fedrec.privacy import accounting
from fedrec.privacy.discrete.renyi import (
    ORDERS,
    SkellamEvent,
    epsilon,
    gaussian_epsilon,
    largest_absolute,
    merged,
)
from fedrec.privacy.discrete.rounding import squared_bound


def divergence(variance: float, shift: int, order: int) -> float:
    """Renyi divergence of Skellam noise from itself shifted, summed over the integers."""
    reach = math.ceil(40 * math.sqrt(variance) + order * shift + 60)
    k = np.arange(-reach, reach + 1)
    with np.errstate(divide="ignore"):
        here, there = (
            np.log(ive(np.abs(k).astype(float), variance)),
            np.log(ive(np.abs(k - shift).astype(float), variance)),
        )
    usable = np.isfinite(here) & np.isfinite(there)
    terms = order * here[usable] - (order - 1) * there[usable]
    return float(logsumexp(terms)) / (order - 1)


@pytest.mark.parametrize("variance", [3.0, 30.0, 400.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3, 8, 20])
def test_the_bound_is_above_the_divergence_and_near_it(variance: float, shift: int, order: int) -> None:
    true = divergence(variance, shift, order)
    bound = SkellamEvent(variance, shift**2, shift).rdp(order)
    assert bound >= true * (1 - 1e-9)
    if order * shift < variance / 2:
        assert bound < true * 1.6
    gauss = order * shift**2 / (2 * variance)
    assert bound > gauss


@settings(max_examples=60, deadline=None)
@given(entries=st.lists(st.integers(-4, 4), min_size=1, max_size=4), order=st.integers(2, 12))
def test_the_bound_holds_for_vectors(entries: list[int], order: int) -> None:
    squared = sum(entry**2 for entry in entries)
    if not squared:
        return
    absolute = largest_absolute(squared, len(entries))
    assert sum(map(abs, entries)) <= absolute
    true = sum(divergence(25.0, abs(entry), order) for entry in entries)
    assert SkellamEvent(25.0, squared, absolute).rdp(order) >= true * (1 - 1e-9)


def test_composition_counts() -> None:
    event = SkellamEvent(50.0, 9, 5)
    assert epsilon([event] * 7, 1e-5) == pytest.approx(epsilon([SkellamEvent(50.0, 9, 5, 7)], 1e-5), rel=1e-12)
    assert merged([event, event]) == (SkellamEvent(50.0, 9, 5, 2),)
    assert epsilon([], 1e-5) == 0.0


@pytest.mark.parametrize(("scale", "known"), [(1e2, 3.303), (1e3, 1.9355), (1e4, 1.9165)])
def test_the_published_accounting_is_met(scale: float, known: float) -> None:
    squared = squared_bound(scale, 65_536)
    event = SkellamEvent(100 * scale**2, squared, largest_absolute(squared, 65_536), 20)
    assert epsilon([event], 1e-5) == pytest.approx(known, abs=6e-4)


def test_a_fine_lattice_costs_what_the_gaussian_costs_by_renyi() -> None:
    z = 2.0
    squared = 10**8
    event = SkellamEvent(z**2 * squared, squared, largest_absolute(squared, 10**6), 3)
    gauss = gaussian_epsilon(3 / z**2, 1e-5)
    assert epsilon([event], 1e-5) == pytest.approx(gauss, rel=1e-5)
    trained = accounting.epsilon_rdp([accounting.Event(1.0, z, 3)], 1e-5)
    assert gauss == pytest.approx(trained, rel=5e-3)
    exact = accounting.gaussian_epsilon(math.sqrt(3) / z, 1e-5)
    assert exact < gauss < exact * 1.15  # the gap from Renyi DP to the exact curve


def test_orders_are_whole_and_reach_tiny_and_large_budgets() -> None:
    assert all(isinstance(order, int) and order > 1 for order in ORDERS)
    assert list(ORDERS) == sorted(set(ORDERS))
    for z in (0.2, 1.0, 30.0, 1000.0):
        gauss = gaussian_epsilon(1 / z**2, 1e-6)
        assert gauss < accounting.epsilon_rdp([accounting.Event(1.0, z)], 1e-6) * 1.02


@pytest.mark.parametrize(
    ("variance", "squared", "absolute", "count"), [(0.0, 1, 1, 1), (1.0, 0, 0, 1), (1.0, 9, 2, 1), (1.0, 4, 5, 1)]
)
def test_an_event_that_cannot_be_is_refused(variance: float, squared: int, absolute: int, count: int) -> None:
    with pytest.raises(ValueError, match="event"):
        SkellamEvent(variance, squared, absolute, count)
