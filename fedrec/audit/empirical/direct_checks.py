"""Does the system do what its record says? Tests of releases against the stated noise, clip, sampling and support.

A holder of all users' data (a simulation, or a test on generated users) can subtract the correct sum from the released
one. The rest must be the stated noise and nothing else. Each test gives an exact or conservative p-value for "the
system does as stated". `accused` bounds the chance that ANY of them accuses a correct system (Holm 1979).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import beta, binom, chi2, hypergeom, kstest, norm

from fedrec.privacy.plan import ROUNDING

_SHAPE_SAMPLE = 50_000


@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        p_value: chance of a result at least as extreme in a system that does as stated; None if the test could not run.
        detail: the measurement, for readers.
    """

    check: str
    p_value: float | None
    detail: str


def accused(findings: Sequence[Finding], alpha: float = 0.05) -> list[Finding]:
    """Return the findings that accuse the system; a correct one has any with a chance of at most `alpha`."""
    tested = sorted((f for f in findings if f.p_value is not None), key=lambda f: f.p_value or 0.0)
    found = []
    for place, finding in enumerate(tested):
        if (finding.p_value or 0.0) > alpha / (len(tested) - place):
            break
        found.append(finding)
    return found


def noise_scale(noise: Sequence[np.ndarray]) -> Finding:
    """Is the noise as large as stated?

    Args:
        noise: the rest of each release without the correct sum, divided by its stated deviation.
    """
    entries = sum(part.size for part in noise)
    squares = math.fsum(float(np.square(part, dtype=np.float64).sum()) for part in noise)
    low, high = chi2.cdf(squares, entries), chi2.sf(squares, entries)
    ratio = math.sqrt(squares / entries)
    detail = f"standard deviation {ratio:.4f} of the stated one, over {entries:,} numbers"
    return Finding("noise scale", min(1.0, 2 * float(min(low, high))), detail)


def noise_by_release(noise: Mapping[str, np.ndarray]) -> Finding:
    """Is the noise of EACH release as large as stated? So one release with too little noise is not averaged away."""
    worst, where = 1.0, ""
    for name, part in noise.items():
        squares = float(np.square(part, dtype=np.float64).sum())
        p = 2 * float(min(chi2.cdf(squares, part.size), chi2.sf(squares, part.size)))
        if p <= worst:
            worst, where = p, f"{name}, at {math.sqrt(squares / part.size):.4f} of the stated deviation"
    detail = f"oddest of {len(noise)} releases: {where or 'none'}"
    return Finding("noise of each release", min(1.0, worst * len(noise)), detail)


def noise_shape(noise: Sequence[np.ndarray]) -> Finding:
    """Is the noise normal? Kolmogorov-Smirnov on at most 50,000 numbers, spread evenly over the releases."""
    step = max(1, sum(part.size for part in noise) // _SHAPE_SAMPLE)
    sample = np.concatenate([part[::step] for part in noise])
    tested = kstest(sample, "norm")
    detail = f"greatest distance {tested.statistic:.4f} from the normal distribution, over {len(sample):,} numbers"
    return Finding("noise shape", float(tested.pvalue), detail)


def noise_reuse(noise: Mapping[str, np.ndarray]) -> Finding:
    """Is the noise of each release its own? The greatest correlation of two releases, over their common length."""
    names, worst, where, pairs = list(noise), 1.0, "", 0
    for i, one in enumerate(names):
        for other in names[:i]:
            size = min(noise[one].size, noise[other].size)
            if size < 2:
                continue
            a, b = noise[one][:size].astype(np.float64), noise[other][:size].astype(np.float64)
            pairs += 1
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosine = float(a @ b) / lengths if lengths else 1.0
            # The cosine of two independent normal vectors is 2 Beta((n-1)/2, (n-1)/2) - 1.
            p = 2 * float(beta.sf((1 + min(abs(cosine), 1.0)) / 2, (size - 1) / 2, (size - 1) / 2))
            if p <= worst:
                worst, where = p, f"{other} and {one}, correlated {cosine:+.4f}"
    if not pairs:
        return Finding("noise reuse", None, "fewer than two releases")
    return Finding("noise reuse", min(1.0, worst * pairs), f"most alike of {pairs} pairs: {where}")


def release_support(released: np.ndarray, touched: np.ndarray) -> Finding:
    """Are entries without a contribution noisy too?

    A noisy entry is rounded to exactly zero with a chance of at most ROUNDING / sqrt(2 pi).

    Args:
        released: (entries,) the release.
        touched: (entries,) bool, entries with a contribution.
    """
    untouched = int((~touched).sum())
    if not untouched:
        return Finding("support of releases", None, "somebody touched every entry")
    zeros = int((released[~touched] == 0).sum())
    p = float(binom.sf(zeros - 1, untouched, ROUNDING / math.sqrt(2 * math.pi)))
    return Finding("support of releases", p, f"{zeros:,} of {untouched:,} entries that nobody touched are exactly zero")


def update_support(changes: Sequence[tuple[np.ndarray, np.ndarray]]) -> Finding:
    """Does the model change exactly in the rows with a contribution?

    In a correct system noise decides which rows stay the same. The chance that these are exactly the untouched rows is
    at most one in the number of ways to choose them. The best round counts.

    Args:
        changes: (touched, changed) rows (bool) of each round.
    """
    usable = [(touched, changed) for touched, changed in changes if 0 < touched.sum() < len(touched)]
    if not usable:
        return Finding("support of updates", None, "no round left rows of the model untouched")
    same = [touched for touched, changed in usable if np.array_equal(touched, changed)]
    chance = min((1 / math.comb(len(each), int(each.sum())) for each in same), default=1.0)
    detail = f"the model changed exactly where it was touched in {len(same)} of {len(usable)} rounds"
    return Finding("support of updates", min(1.0, chance * len(usable)), detail)


def clip_probe(excess: np.ndarray) -> Finding:
    """Does every user's contribution stay within the clip?

    Args:
        excess: (probes,) how far each probe, with a raw contribution far above the clip, moved the releases beyond the
            clip, in standard deviations of the noise.
    """
    if not len(excess):
        return Finding("clip", None, "no probe took part")
    p = min(1.0, float(norm.sf(excess.max())) * len(excess))
    detail = (
        f"{len(excess):,} users far above the clip; the greatest moves the sums by {excess.max():+.1f} noise "
        f"deviations beyond it (were one user in {math.ceil(len(excess) / 3):,} or more unclipped, one would be here "
        "with 95 % confidence)"
    )
    return Finding("clip", p, detail)


def cohort_sizes(sizes: Sequence[int], users: int, probability: float) -> Finding:
    """Do the cohort sizes have the mean and the spread of Poisson sampling?

    Each size is tested by the exact binomial, and all by their spread, so that a constant size is noticed.
    """
    counts, mean = np.asarray(sizes), users * probability
    low, high = binom.cdf(counts, users, probability), binom.sf(counts - 1, users, probability)
    each = 2 * float(np.minimum(low, high).min()) * len(counts)
    spread = float(chi2.cdf(np.square(counts - mean).sum() / (mean * (1 - probability)), len(counts)))
    detail = f"{counts.min():,} to {counts.max():,} users a round, {mean:,.1f} expected"
    return Finding("cohort sizes", min(1.0, 2 * each, 2 * spread), detail)


def cohort_overlap(cohorts: Sequence[np.ndarray], users: int) -> Finding:
    """Is each round's cohort drawn afresh? The overlap of consecutive cohorts, given their sizes, is hypergeometric."""
    worst, where = 1.0, ""
    for round_index, (before, after) in enumerate(pairwise(cohorts)):
        both = len(np.intersect1d(before, after))
        law = hypergeom(users, len(before), len(after))
        p = 2 * float(min(law.cdf(both), law.sf(both - 1)))
        if p <= worst:
            expected = float(law.mean())
            worst, where = p, f"{both:,} users of round {round_index} again in the next, {expected:,.1f} expected"
    if not where:
        return Finding("cohort overlap", None, "fewer than two rounds")
    return Finding("cohort overlap", min(1.0, worst * (len(cohorts) - 1)), f"oddest: {where}")
