"""Skellam draws: the right distribution, small means and large, and no other scale passes."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, ive

from fedrec.privacy.discrete.skellam import LARGEST_VARIANCE, log_poisson, poisson, skellam
from fedrec.privacy.discrete.stream import WordStream


def stream(label: str = "test") -> WordStream:
    return WordStream(bytes(range(32)), label)


def pmf(k: np.ndarray, variance: float) -> np.ndarray:
    """The Skellam density: exp(-v) I_k(v), v the variance."""
    return ive(np.abs(k).astype(float), variance)


def p_value(values: np.ndarray, variance: float) -> float:
    """Chi-square of the counts, against bins of at least 20 expected."""
    reach = math.ceil(6 * math.sqrt(variance) + 6)
    k = np.arange(-reach, reach + 1)
    expected = pmf(k, variance) * len(values)
    counts = np.bincount(np.clip(values, -reach, reach) + reach, minlength=len(k))
    group = np.floor(np.cumsum(expected) / 20).astype(int)
    sums = np.bincount(group, expected), np.bincount(group, counts)
    wide = sums[0] > 5
    return float(stats.chi2.sf(((sums[1] - sums[0])[wide] ** 2 / sums[0][wide]).sum(), wide.sum() - 1))


@pytest.mark.parametrize("variance", [0.01, 0.7, 6.0, 19.9, 20.1, 300.0, 20_000.0])
def test_draws_have_the_distribution(variance: float) -> None:
    drawn = skellam(variance, 100_000, stream(str(variance)))
    assert p_value(drawn, variance) > 1e-4
    assert max(p_value(drawn, variance * 2 / 3), p_value(drawn, variance * 3 / 2)) < 1e-12


@pytest.mark.parametrize("variance", [1e6, 1e9, LARGEST_VARIANCE])
def test_large_means_keep_variance_and_shape(variance: float) -> None:
    drawn = skellam(variance, 100_000, stream(str(variance))) / math.sqrt(variance)
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(drawn / math.sqrt(wrong), "norm").pvalue < 1e-12


@pytest.mark.parametrize("shares", [2, 7, 1000])
def test_a_sum_of_shares_is_one_draw_of_the_sum(shares: int) -> None:
    total = sum(skellam(250.0 / shares, 20_000, stream(f"share {number}")) for number in range(shares))
    assert p_value(np.asarray(total), 250.0) > 1e-4
    assert p_value(np.asarray(total), 250.0 * 1.5) < 1e-12
    assert p_value(np.asarray(total), 250.0 / 1.5) < 1e-12


def test_the_density_does_not_cancel_at_large_means() -> None:
    for mean in (30.0, 1e4, 1e12, 2.0**50):
        k = np.round(mean + math.sqrt(mean) * np.linspace(-4, 4, 25))
        steps = np.diff(log_poisson(np.concatenate([k, k + 1]).reshape(2, -1), mean), axis=0)[0]
        assert steps == pytest.approx(np.log(mean / (k + 1)), abs=3e-11)  # p(k + 1) / p(k) = mean / (k + 1)
    small = np.arange(60.0)
    assert log_poisson(small, 12.5) == pytest.approx(small * math.log(12.5) - 12.5 - gammaln(small + 1), abs=1e-12)


def test_draws_repeat_with_the_key_alone() -> None:
    assert np.array_equal(skellam(9.0, 1000, stream("a")), skellam(9.0, 1000, stream("a")))
    assert not np.array_equal(skellam(9.0, 1000, stream("a")), skellam(9.0, 1000, stream("b")))
    assert not np.array_equal(skellam(9.0, 1000, WordStream.fresh()), skellam(9.0, 1000, WordStream.fresh()))
    assert poisson(0.0, 3, stream()).tolist() == [0, 0, 0]


def test_what_has_no_exact_integers_is_refused() -> None:
    for variance in (-1.0, float("nan"), 2.0**53):
        with pytest.raises(ValueError, match="variance"):
            skellam(variance, 1, stream())
    with pytest.raises(ValueError, match="32 bytes"):
        WordStream(b"short", "x")
