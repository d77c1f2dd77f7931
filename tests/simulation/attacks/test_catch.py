"""The audit catches each planted bug, and does not accuse a correct system."""

import numpy as np
import pytest
from fedrec_sim.attacks import canary_attack
from fedrec_sim.attacks.self_test import self_test, small_target

from tests.simulation.attacks.planted_bugs import BUGS, half_the_noise


@pytest.mark.parametrize("bug", BUGS)
def test_each_planted_bug_is_caught_by_the_test_made_for_it(bug, monkeypatch):
    plant, check = BUGS[bug]
    plant(monkeypatch)
    result, _ = self_test(small_target(3))
    assert result.accused
    against = {one["check"].partition(" (")[0] for one in result.figures["against"]}
    assert check in against
    assert check in result.says


@pytest.mark.parametrize("seed", [1, 2])
def test_a_correct_system_is_not_accused(seed):
    target = small_target(seed)
    result, findings = self_test(target)
    assert not result.accused, result.says
    assert sum(finding.p_value is not None for finding in findings) >= 15, "tests that cannot fail were counted"
    canaries = canary_attack.attack(target, 1000)
    assert not canaries.accused
    assert 1 < canaries.lower < canaries.proven, "no bound at all would accuse nobody either"


def test_canaries_see_missing_noise(monkeypatch):
    half_the_noise(monkeypatch)
    result = canary_attack.attack(small_target(3), 1000)
    assert result.accused
    assert result.lower > result.proven
    assert "REFUTES" in result.says


@pytest.mark.slow
def test_a_correct_system_is_not_accused_in_twenty_seeds():
    accused = []
    for seed in range(100, 120):
        target = small_target(seed)
        accused += [seed] * self_test(target)[0].accused
        for sampling in (1.0, 0.3):
            accused += [seed] * canary_attack.attack(target.with_privacy(sampling=sampling), 1000).accused
    # The self-test accuses a correct system once in a thousand, the canaries at most once in twenty (far less often in
    # truth: their bound would have to be tight first).
    assert accused == []


def test_coins_are_fair_and_fixed_by_the_seed():
    target = small_target(1)
    one, again = (canary_attack.attack(target, 200) for _ in range(2))
    assert one.payload() == again.payload()
    other = canary_attack.attack(small_target(2), 200)
    assert other.payload() != one.payload()
    assert np.all(np.abs(np.array([one.figures["included"], other.figures["included"]]) - 100) < 36)  # 5 deviations
