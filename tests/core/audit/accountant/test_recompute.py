"""The second opinion: against what is known exactly, against both accountants of training, and by code of its own."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import curve, gaussian_epsilon, renyi_curve
from fedrec.audit.entries.account import account
from fedrec.audit.verify import charges
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event
from tests.core.audit.ledgers import payloads_of, plan_of

DELTA = 1e-5


def tight(q: float, z: float, count: int, delta: float = DELTA) -> float:
    return float(curve([[(q, z, count)]], delta).epsilon[-1])


def renyi(q: float, z: float, count: int, delta: float = DELTA) -> float:
    return float(renyi_curve([[(q, z, count)]], delta).epsilon[-1])


def test_the_figures_that_were_measured_with_other_software() -> None:
    """dp-accounting 0.6.0 (PLD at 1e-4, RDP), Opacus 1.6.0 (RDP, PRV), and the exact Gaussian, at delta 1e-5."""
    assert tight(1.0, 10.0, 20) == pytest.approx(1.760057, abs=1e-6)
    assert tight(0.01, 1.0, 1000) == pytest.approx(1.82824, abs=3e-4)
    assert tight(0.01, 1.0, 1000) < 1.83837
    assert renyi(1.0, 10.0, 20) == pytest.approx(1.91425, abs=1e-3)
    assert renyi(0.01, 1.0, 1000) == pytest.approx(2.10137, abs=1e-3)
    assert tight(0.01, 1.0, 1000) > 1.61771, "the central limit underestimates"


GRID = [
    (1.0, 10.0, 20), (1.0, 0.8, 1), (1.0, 200.0, 5000), (0.3, 5.0, 42), (0.1, 2.0, 100), (0.01, 0.5, 10),
    (0.5, 20.0, 500), (0.02, 1.0, 10_000), (0.05, 0.4, 3), (0.9, 3.0, 5), (0.01, 1.0, 1), (0.001, 0.6, 3000),
]  # fmt: skip


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize(("q", "z", "count"), GRID)
def test_both_accountants_agree_with_it(q: float, z: float, count: int, delta: float) -> None:
    ours = curve([[(q, z, count)]], delta)
    low = float(ours.epsilon[-1]) * (1 - charges.RELATIVE) - ours.step / 2
    assert low <= accounting.epsilon_pld([Event(q, z, count)], delta) + 1e-9
    assert accounting.epsilon_pld([Event(q, z, count)], delta) <= float(ours.epsilon[-1]) * 1.005 + 2e-3
    assert renyi(q, z, count, delta) == pytest.approx(
        accounting.epsilon_rdp([Event(q, z, count)], delta), rel=charges.RENYI
    )
    assert float(ours.epsilon[-1]) <= renyi(q, z, count, delta) + ours.step


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 20), st.sampled_from([1e-3, 1e-5, 1e-9]))
def test_full_participation_is_the_exact_gaussian(mu: float, delta: float) -> None:
    ours = float(gaussian_epsilon(np.array([mu]), delta)[0])
    assert ours == pytest.approx(accounting.gaussian_epsilon(mu, delta), rel=1e-6, abs=1e-8)
    if ours > 1e-9:  # the definition itself: delta at that epsilon is delta
        from scipy.special import log_ndtr

        found = math.exp(log_ndtr(mu / 2 - ours / mu)) - math.exp(ours + log_ndtr(-mu / 2 - ours / mu))
        assert found == pytest.approx(delta, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 30), st.integers(1, 50), st.floats(0.01, 0.999))
def test_sampling_never_costs_more_than_full_participation_and_nearly_as_much_at_the_end(
    z: float, count: int, q: float
) -> None:
    exact = float(gaussian_epsilon(np.array([math.sqrt(count) / z]), DELTA)[0])
    step = curve([[(q, z, count)]], DELTA).step
    assert tight(q, z, count) <= exact * (1 + 1e-4) + step
    almost = curve([[(1 - 1e-12, z, count)]], DELTA)
    assert float(almost.epsilon[-1]) == pytest.approx(exact, rel=1e-3, abs=almost.step)
    assert float(almost.epsilon[-1]) >= exact * (1 - 1e-4) - almost.step / 4


def test_one_sampled_release_against_its_definition() -> None:
    """delta(epsilon) by integrating max(0, p - e^epsilon r) over outcomes, in both directions, on a fine net."""
    for q, z, delta in ((0.1, 1.0, 1e-5), (0.5, 2.0, 1e-3), (0.02, 0.7, 1e-4)):
        x = np.linspace(-40 * z, 1 + 40 * z, 2_000_001)
        noise = np.exp(-(x**2) / (2 * z**2)) / (z * math.sqrt(2 * math.pi))
        mixed = (1 - q) * noise + q * np.exp(-((x - 1) ** 2) / (2 * z**2)) / (z * math.sqrt(2 * math.pi))
        width = x[1] - x[0]

        def lost(epsilon: float, noise=noise, mixed=mixed, width=width) -> float:
            return max(
                float(np.maximum(mixed - math.exp(epsilon) * noise, 0).sum() * width),
                float(np.maximum(noise - math.exp(epsilon) * mixed, 0).sum() * width),
            )

        ours = tight(q, z, 1, delta)
        assert lost(ours * 1.002 + 1e-4) <= delta <= lost(ours * 0.998 - 1e-4)


def test_counts_repetitions_and_places_say_the_same() -> None:
    events = [[(0.1, 2.0, 1)], [(0.1, 3.0, 2)], [], [(0.1, 2.0, 1)]]
    whole = curve(events, DELTA)
    assert list(whole.places) == [1, 2, 3, 4]
    assert whole.epsilon[1] == whole.epsilon[2]
    assert (np.diff(whole.epsilon) >= 0).all()
    at_once = curve([[(0.1, 2.0, 2), (0.1, 3.0, 2)]], DELTA)
    assert at_once.epsilon[0] == pytest.approx(whole.epsilon[-1], abs=1e-9)
    assert curve(events, DELTA, [2, 4]).epsilon == pytest.approx(whole.epsilon[[1, 3]])
    mixed = curve([[(1.0, 5.0, 1)], [(0.2, 2.0, 3)]], DELTA)
    assert mixed.epsilon[-1] == pytest.approx(
        accounting.epsilon_pld([Event(1.0, 5.0), Event(0.2, 2.0, 3)], DELTA), rel=2e-3
    )
    assert renyi_curve([[], [(0.1, 2.0, 1)]], DELTA).epsilon[0] == 0


def test_many_kinds_of_events_are_rounded_to_the_safe_side() -> None:
    events = [[(0.1, 2.0 + number / 100, 1)] for number in range(60)]
    ours = float(curve(events, DELTA, [60]).epsilon[-1])
    theirs = accounting.epsilon_pld([Event(q, z) for row in events for q, z, _ in row], DELTA, 1e-3)
    assert theirs * 0.999 <= ours <= theirs * 1.004


@pytest.mark.parametrize(("sampling", "epsilon"), [(1.0, 0.2), (1.0, 8.0), (0.3, 1.0), (0.05, 2.0)])
def test_what_a_plan_records_is_never_below_it(sampling: float, epsilon: float) -> None:
    known = account(payloads_of(plan_of(sampling=sampling, epsilon=epsilon)))
    assert not any(charges.check(known).faults)


def test_it_shares_no_code_with_training() -> None:
    """Verification in a fresh interpreter loads no accountant, no plan and no torch."""
    program = (
        "import sys, fedrec.audit.verify.verification, fedrec.audit.log.proofs\n"
        "import fedrec.audit.log.witness, fedrec.audit.evidence.received_run\n"
        "heavy = ('fedrec.privacy', 'fedrec.algorithms', 'torch', 'opacus', 'dp_accounting')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert recompute.__doc__ is not None
