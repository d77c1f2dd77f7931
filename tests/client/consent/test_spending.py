"""What a device counts is never below what the run's own accountants count for the same releases, and hardly above."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fedrec_client import consent
from fedrec_client.consent.spending import (
    CEILING,
    GRID,
    ORDERS,
    Cost,
    Limit,
    Totals,
    epsilon,
    gaussian_epsilon,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import PrivacyError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event
from fedrec.privacy.discrete import renyi
from fedrec.privacy.discrete.renyi import SkellamEvent
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery


def test_the_device_s_half_needs_no_heavy_package() -> None:
    modules = sorted(file.stem for file in Path(consent.__path__[0]).glob("*.py"))
    assert len(modules) > 10
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(f'fedrec_client.consent.{{name}}')\n"
        "heavy = {'torch', 'opacus', 'scipy', 'flwr', 'pydantic', 'polars', 'dp_accounting', 'typer', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-5, 30), st.floats(-60, -1))
def test_gaussians_cost_no_less_than_the_exact_curve_and_a_millionth_more(mu: float, log_delta: float) -> None:
    delta = math.exp(log_delta)
    exact, ours = accounting.gaussian_epsilon(mu, delta), gaussian_epsilon(mu * mu, delta)
    assert ours >= exact * (1 - 1e-12)
    if exact > 1e-3 and ours < 600:
        assert ours <= exact * (1 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 30), st.integers(1, 20)), min_size=1, max_size=4), st.floats(1e-8, 1e-3))
def test_full_participation_costs_no_less_than_the_run_s_accountants_say(kinds, delta: float) -> None:
    events = [Event(1.0, z, count) for z, count in kinds]
    cost = sum((Cost.of_gaussians([z] * count) for z, count in kinds), Cost())
    ours = epsilon(cost, delta)
    merged = accounting.merge(events)
    exact = accounting.gaussian_epsilon(1 / merged[0].noise_multiplier, delta)
    assert exact <= ours <= exact * (1 + 1e-6)
    assert ours <= accounting.epsilon_rdp(events, delta) * (1 + 1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 50), st.integers(1, 50), st.floats(1e-9, 1e-3))
def test_renyi_at_whole_orders_is_above_the_exact_curve(z: float, count: int, delta: float) -> None:
    one = Cost.of_renyi({order: order / (2 * z * z) for order in ORDERS})
    whole = sum((one for _ in range(count)), Cost())
    assert epsilon(whole, delta) >= accounting.gaussian_epsilon(math.sqrt(count) / z, delta)
    assert epsilon(whole, delta) >= accounting.epsilon_rdp([Event(1.0, z, count)], delta) * (1 - 1e-9)


def test_skellam_costs_no_less_than_the_run_s_accountant_says_and_tends_to_the_gaussian() -> None:
    """20 releases at z = 10 in 65,536 dimensions, for three scales."""
    found = []
    for scale in (100, 1000, 10000):
        event = SkellamEvent((10.0 * scale) ** 2, scale**2, renyi.largest_absolute(scale**2, 65536))
        found.append(epsilon(sum((Cost.of_skellam(event) for _ in range(20)), Cost()), 1e-5))
        theirs = renyi.epsilon([replace(event, count=20)], 1e-5)
        assert theirs <= found[-1] <= theirs * (1 + 1e-3)
    assert found[0] > found[1] > found[2]
    assert found[2] == pytest.approx(renyi.gaussian_epsilon(20 / 100, 1e-5), rel=2e-3)


def test_a_release_without_noise_has_no_price() -> None:
    for odd in (0.0, -1.0, math.nan):
        with pytest.raises(PrivacyError):
            Cost.of_gaussians([1.0, odd])
    assert Cost.of_gaussians([1e-30]).gaussian == CEILING
    assert epsilon(Cost.of_renyi({}), 1e-5) == math.inf


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 50), st.floats(1e-9, 1e-2), st.booleans())
def test_what_a_limit_lets_pass_is_covered_by_it(most: float, delta: float, skellam: bool) -> None:
    """A server spends in steps until it is refused; the total is within the limit, and not far below."""
    limit, spent = Limit(most, delta), Totals(1)
    step = Cost(limit.gaussian // 37)
    if skellam:
        step = Cost.of_renyi({order: limit.renyi / GRID / limit.order * order / 37 for order in ORDERS})
    passed = 0
    while limit.allows(spent, step)[0]:
        spent.add(step, np.ones(1, dtype=bool))
        passed += 1
    assert 36 <= passed <= 38
    assert spent.epsilons(delta / 2)[0] <= most * (1 + 1e-6)
    assert spent.epsilons(delta)[0] <= most
    assert 0.95 <= limit.share(spent)[0] <= 1


def test_rules_do_not_add_up_to_more_than_the_limit() -> None:
    """Gaussian releases up to their rule leave nothing for Skellam ones, and the other way round."""
    limit = Limit(2.0, 1e-5)
    everybody = np.ones(1, dtype=bool)
    spent = Totals(1)
    spent.add(Cost(limit.gaussian), everybody)
    other = Cost.of_renyi({order: 1e-3 * order for order in ORDERS})
    assert not limit.allows(spent, other)[0]
    assert not limit.allows(spent, Cost(1))[0]
    spent = Totals(1)
    spent.add(Cost.of_renyi({order: limit.renyi / GRID / limit.order * order for order in ORDERS}), everybody)
    assert not limit.allows(spent, Cost(limit.gaussian // 100))[0]


def test_users_of_a_hub_are_counted_apart() -> None:
    spent, limit = Totals(4), Limit(1.0, 1e-5)
    spent.add(Cost(limit.gaussian // 2), np.array([True, True, False, False]))
    spent.add(Cost(limit.gaussian // 2), np.array([True, False, False, False]))
    assert limit.allows(spent, Cost(limit.gaussian // 2)).tolist() == [False, True, True, True]
    one, half, none, _ = spent.epsilons(1e-5)
    assert none == 0 < half < one <= 1
    spent.add(Cost(limit.gaussian // 2), np.array([True, False, False, False]), -1)
    assert spent.epsilons(1e-5)[0] == half


@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_a_device_counts_what_the_plan_of_shared_noise_counts(trust: str) -> None:
    rounds = [
        (SumQuery("counts", (40,), 1.0, 0.7), SumQuery("pairs", (12,), 2.0, 0.1)),
        (SumQuery("w", (9,), 1.0, 0.2),),
    ]
    plan = PrivacyPlan.build(PrivacyConfig(epsilon=4.0, delta=1e-5, trust=trust), rounds, 300, seed=None)
    noise = plan.discrete
    assert noise is not None
    events = [noise.query(n, query.name).event(noise.shares.counted) for n, row in enumerate(rounds) for query in row]
    ours = epsilon(sum((Cost.of_skellam(event) for event in events), Cost()), 1e-5)
    theirs = plan.epsilon(2)["rdp"]
    assert theirs <= ours <= theirs * (1 + 1e-3)


def test_a_run_beyond_all_numbers_is_not_covered() -> None:
    """The whole price of a hostile card is a sum that an int64 does not hold."""
    huge = Cost(10**25, (10**25,) * len(ORDERS))
    assert not Limit(10.0, 1e-5).allows(Totals(2), huge).any()
