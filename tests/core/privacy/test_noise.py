"""The secret randomness: the right distribution, the right scale (2/3 and 3/2 of it must fail), and repeatability."""

import math
import time
import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest
import torch

from fedrec.privacy.noise import BLOCK, NoiseSource


def draw(source: NoiseSource, size: int, round_index: int = 0, name: str = "sum") -> np.ndarray:
    return np.concatenate(list(source.normal_blocks(round_index, name, size)))


def looks_standard_normal(sample: np.ndarray) -> bool:
    """Mean, variance, fourth moment and Kolmogorov-Smirnov, each at about five standard errors."""
    n = len(sample)
    ordered = np.sort(sample)
    cdf = np.array([NormalDist().cdf(x) for x in ordered[:: n // 2000]])
    ks = np.abs(cdf - np.arange(n)[:: n // 2000] / n).max()
    return bool(
        abs(sample.mean()) < 5 / math.sqrt(n)
        and abs((sample**2).mean() - 1) < 5 * math.sqrt(2 / n)
        and abs((sample**4).mean() - 3) < 5 * math.sqrt(96 / n)
        and ks < 2.5 / math.sqrt(n)
    )


def test_standard_normal_and_nothing_else() -> None:
    sample = draw(NoiseSource.from_seed(7), 200_000)
    assert looks_standard_normal(sample)
    assert not looks_standard_normal(sample * 2 / 3)
    assert not looks_standard_normal(sample * 3 / 2)
    assert not looks_standard_normal(sample + 0.05)


def test_entries_are_uncorrelated() -> None:
    sample = draw(NoiseSource.from_seed(8), 4 * BLOCK)
    for lag in (1, 2, BLOCK // 2, BLOCK):
        assert abs(np.mean(sample[:-lag] * sample[lag:])) < 5 / math.sqrt(len(sample) - lag)


def test_a_draw_is_a_function_of_key_round_and_name() -> None:
    source = NoiseSource(bytes(range(32)))
    sample = draw(source, 1000)
    assert np.array_equal(sample, draw(NoiseSource(bytes(range(32))), 1000))
    assert np.array_equal(sample, draw(source, BLOCK + 5)[:1000])
    others = [draw(source, 1000, round_index=1), draw(source, 1000, name="other"), draw(NoiseSource(bytes(32)), 1000)]
    for other in others:
        assert abs(np.mean(sample * other)) < 5 / math.sqrt(1000)


def test_seeds_repeat_and_the_operating_system_does_not() -> None:
    assert np.array_equal(draw(NoiseSource.from_seed(1), 10), draw(NoiseSource.from_seed(1), 10))
    assert not np.array_equal(draw(NoiseSource.from_seed(1), 10), draw(NoiseSource.from_seed(2), 10))
    assert not np.array_equal(draw(NoiseSource.from_seed(None), 10), draw(NoiseSource.from_seed(None), 10))


def test_the_key_is_never_shown() -> None:
    assert "hidden" in repr(NoiseSource(bytes(range(32))))
    with pytest.raises(ValueError, match="32 bytes"):
        NoiseSource(b"short")


@pytest.mark.parametrize("size", [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1])
def test_any_size(size: int) -> None:
    assert sum(len(block) for block in NoiseSource.from_seed(0).normal_blocks(0, "x", size)) == size


def test_the_number_of_threads_changes_no_bit() -> None:
    before, draws = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        draws.append(draw(NoiseSource.from_seed(2), 5 * BLOCK + 7))
    torch.set_num_threads(before)
    assert np.array_equal(*draws)


def test_large_draws_need_little_memory_and_time() -> None:
    began = time.perf_counter()
    tracemalloc.start()
    for block in NoiseSource.from_seed(0).normal_blocks(0, "x", 2_000_000):
        assert len(block) <= BLOCK
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert time.perf_counter() - began < 10  # 0.2 s on an idle machine


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.9])
def test_poisson_cohorts(probability: float) -> None:
    users, source = 200_000, NoiseSource.from_seed(3)
    cohort = source.cohort(0, users, probability)
    spread = math.sqrt(users * probability * (1 - probability))
    assert abs(len(cohort) - users * probability) < 5 * spread
    assert np.all(np.diff(cohort) > 0)
    assert 0 <= cohort[0] <= cohort[-1] < users
    halves = np.bincount(cohort // (users // 4), minlength=4)
    assert np.all(np.abs(halves - users / 4 * probability) < 5 * spread / 2)
    assert np.array_equal(cohort, source.cohort(0, users, probability))
    both = np.intersect1d(cohort, source.cohort(1, users, probability))
    assert abs(len(both) - users * probability**2) < 5 * math.sqrt(users * probability**2)


def test_cohorts_of_nobody_and_everybody() -> None:
    assert len(NoiseSource.from_seed(0).cohort(0, 0, 0.5)) == 0
    assert len(NoiseSource.from_seed(0).cohort(0, 1000, 1.0)) == 1000
