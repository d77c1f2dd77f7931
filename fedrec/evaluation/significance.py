"""Tests whether one run is better than another by more than luck, paired over the users of both.

Sources: paired bootstrap (Efron and Tibshirani 1993; in retrieval Sakai 2006) and Wilcoxon's signed-rank test (Wilcoxon
1945; Smucker et al. 2007 compare the two). Differs from the usual code in drawing how often each DIFFERENT value occurs
rather than which users do: the same distribution, and a million users whose hits differ by -1, 0 or 1 cost as much as
a thousand. Neither test measures the luck of a seed: repeat a run under several.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from fedrec.errors import InputError
from fedrec.evaluation.metrics import values
from fedrec.evaluation.ranking import Ranks

REPEATS = 10_000
CONFIDENCE = 0.95
CHUNK = 1 << 20
"""Counts held at a time."""


@dataclass(frozen=True)
class Comparison:
    """The differences of `a` and `b` over the same users.

    Attributes:
        difference: mean of a - b.
        low: lower end of the 95 % percentile interval of the paired bootstrap.
        high: upper end of that interval.
        p_bootstrap: two-sided, under differences shifted to mean 0, never below 1 / (repeats + 1).
        p_wilcoxon: two-sided, over the users whose values differ; 1 without such users.
        users: number of users.
    """

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_wilcoxon: float
    users: int


def user_values(found: Ranks, metric: str, protocol: str = "full") -> np.ndarray:
    """Compute each user's value of `metric` ("ndcg@10") in the order of `found.users`, (U,) float64.

    These are private data of the users.

    Raises:
        InputError: for an unknown metric or a protocol that was not measured.
    """
    if protocol not in found.protocols:
        raise InputError(f"protocol '{protocol}' was not measured; there is {', '.join(found.protocols)}")
    return values(found.protocols[protocol], metric).numpy()


def compare_ranks(a: Ranks, b: Ranks, metric: str, seed: int, protocol: str = "full") -> Comparison:
    """Compare `metric` of two runs.

    Raises:
        InputError: when the runs ranked different users or items.
    """
    same = np.array_equal(a.users, b.users) and a.owners.equal(b.owners) and a.targets.equal(b.targets)
    if not same or a.n_items != b.n_items:
        raise InputError("the two runs held out different items; compare runs of one dataset, split and seed")
    return compare(user_values(a, metric, protocol), user_values(b, metric, protocol), seed)


def compare(a: np.ndarray, b: np.ndarray, seed: int, repeats: int = REPEATS) -> Comparison:
    """Run both tests on paired values.

    Args:
        a: (U,).
        b: (U,).
        seed: of the bootstrap's draws.
        repeats: samples of the bootstrap.

    Raises:
        InputError: when the lengths differ, there are no users, or a value is not finite.
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise InputError(f"compare: needs one value a user from both runs, not {a.shape} and {b.shape}")
    differences = a.astype(np.float64) - b.astype(np.float64)
    if not np.isfinite(differences).all():
        raise InputError("compare: a value that is not finite")
    mean = float(differences.mean())
    means = _bootstrap(differences, repeats, seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # At least as far from 0 as the observed mean; the allowance is for rounding alone.
    extreme = np.abs(means - mean) >= abs(mean) - 1e-12 * np.abs(differences).max()
    return Comparison(
        difference=mean,
        low=float(low),
        high=float(high),
        p_bootstrap=float((1 + extreme.sum()) / (repeats + 1)),
        p_wilcoxon=float(wilcoxon(differences).pvalue) if differences.any() else 1.0,
        users=len(differences),
    )


def _bootstrap(differences: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    """Compute the means of `repeats` samples of users with replacement, (repeats,) float64."""
    levels, counts = np.unique(differences, return_counts=True)
    generator = np.random.default_rng(seed)
    users, at_once = len(differences), max(1, CHUNK // len(levels))
    parts = [
        generator.multinomial(users, counts / users, size=min(at_once, repeats - start)) @ levels
        for start in range(0, repeats, at_once)
    ]
    return np.concatenate(parts) / users
