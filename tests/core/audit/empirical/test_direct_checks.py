"""Direct tests: honest p-values where all is well, tiny ones at 2/3 and 3/2, and no accusation."""

import numpy as np
import pytest

from fedrec.audit.empirical.direct_checks import (
    Finding,
    accused,
    clip_probe,
    cohort_overlap,
    cohort_sizes,
    noise_by_release,
    noise_reuse,
    noise_scale,
    noise_shape,
    release_support,
    update_support,
)

USERS, ROUNDS, PROBABILITY = 200, 8, 0.3


def noise(rng, scale=1.0):
    return [scale * rng.standard_normal(500) for _ in range(6)]


def named(parts):
    return {f"round {i}": part for i, part in enumerate(parts)}


def poisson(rng):
    return [np.flatnonzero(rng.random(USERS) < PROBABILITY) for _ in range(ROUNDS)]


CHECKS = {
    "scale": lambda rng: noise_scale(noise(rng)),
    "each": lambda rng: noise_by_release(named(noise(rng))),
    "shape": lambda rng: noise_shape(noise(rng)),
    "reuse": lambda rng: noise_reuse(named(noise(rng))),
    "clip": lambda rng: clip_probe(rng.standard_normal(100)),
    "sizes": lambda rng: cohort_sizes([len(c) for c in poisson(rng)], USERS, PROBABILITY),
    "overlap": lambda rng: cohort_overlap(poisson(rng), USERS),
    "support": lambda rng: release_support(np.where(rng.random(3000) < 3e-4, 0.0, 1.0), np.arange(3000) < 10),
}


@pytest.mark.parametrize("check", CHECKS)
def test_p_values_are_honest(check):
    rng = np.random.default_rng(5)
    p = np.array([CHECKS[check](rng).p_value for _ in range(300)])
    assert p.min() >= 0
    assert p.max() <= 1
    for level in (0.05, 0.2):
        assert (p <= level).mean() < level + 4 * np.sqrt(level * (1 - level) / len(p))


@pytest.mark.parametrize("scale", [2 / 3, 3 / 2, 0.9])
def test_a_wrong_scale_is_seen(scale):
    rng = np.random.default_rng(0)
    assert noise_scale(noise(rng, scale)).p_value < 1e-6
    assert noise_scale(noise(rng)).p_value > 1e-3


def test_one_quiet_release_among_many_is_seen():
    parts = noise(np.random.default_rng(0))
    parts[3] = parts[3] * 0.7
    assert noise_by_release(named(parts)).p_value < 1e-6
    assert "round 3" in noise_by_release(named(parts)).detail


def test_another_shape_of_the_same_scale_is_seen():
    rng = np.random.default_rng(0)
    assert noise_shape([rng.laplace(scale=0.5**0.5, size=5000)]).p_value < 1e-6
    assert noise_shape([np.sqrt(2) * rng.standard_normal(5000) * (rng.random(5000) < 0.5)]).p_value < 1e-6


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.1])
def test_noise_that_comes_again_is_seen_at_any_scale(factor):
    parts = noise(np.random.default_rng(0))
    parts[5] = factor * parts[2]
    found = noise_reuse(named(parts))
    assert found.p_value < 1e-12
    assert "round 2 and round 5" in found.detail
    assert noise_reuse(named(parts[:1])).p_value is None


def test_support():
    rng = np.random.default_rng(0)
    touched = np.arange(100) < 60
    assert release_support(np.where(touched, rng.standard_normal(100), 0.0), touched).p_value < 1e-12
    assert release_support(rng.standard_normal(100), touched).p_value == 1
    assert release_support(rng.standard_normal(100), np.ones(100, dtype=bool)).p_value is None
    assert update_support([(touched, touched)]).p_value < 1e-12
    assert update_support([(touched, np.ones(100, dtype=bool))]).p_value == 1
    assert update_support([(np.ones(100, dtype=bool), np.ones(100, dtype=bool))]).p_value is None


def test_one_unclipped_user_is_seen():
    excess = np.random.default_rng(0).standard_normal(1000)
    assert clip_probe(excess).p_value > 1e-3
    excess[17] = 50
    assert clip_probe(excess).p_value < 1e-12
    assert clip_probe(np.zeros(0)).p_value is None


def test_cohorts_that_are_no_poisson_samples_are_seen():
    rng = np.random.default_rng(0)
    one = poisson(rng)[0]
    assert cohort_overlap([one] * ROUNDS, USERS).p_value < 1e-12
    assert cohort_sizes([60] * ROUNDS, USERS, PROBABILITY).p_value < 1e-6
    assert cohort_sizes([len(c) for c in poisson(rng)], USERS, 0.2).p_value < 1e-3
    assert cohort_overlap([one], USERS).p_value is None


def test_a_correct_system_is_accused_no_more_often_than_stated():
    rng = np.random.default_rng(3)
    told = [
        bool(accused([*(Finding("x", p, "") for p in rng.random(15)), Finding("y", None, "")], 0.05))
        for _ in range(2000)
    ]
    assert np.mean(told) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 2000)
    assert np.mean(told) > 0.03, "a test that never accuses tests nothing"
    assert [f.check for f in accused([Finding("a", 1e-9, ""), Finding("b", 0.03, ""), Finding("c", 0.9, "")])] == ["a"]
