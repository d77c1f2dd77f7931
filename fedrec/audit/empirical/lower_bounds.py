"""Lower bounds on epsilon from an attack: each holds with the stated confidence, and none proves privacy.

| bound | from | assumes |
|---|---|---|
| `two_sided_epsilon` | false and true positives of independent trials | trials are independent |
| `gaussian_mu_bound` | guesses about independent fair coins | also a Gaussian's trade-off curve; far tighter then |
| `one_run_epsilon` | guesses about m coins in ONE run | (epsilon, delta)-DP for each coin alone |

Sources: Clopper & Pearson 1934 on the rates of Jagielski et al. 2020 and Nasr et al. 2021; Nasr et al. 2023 ("Tight
auditing") for Gaussian DP; Steinke, Nasr & Jagielski 2023, corollary 5.4, for one run. Differs in the grid of
thresholds and numbers of guesses: it is fixed before the scores are seen, and the confidence covers all of it
(Bonferroni).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import bdtrc
from scipy.stats import beta, binom, norm

GUESSED = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of the canaries that `best_one_run` guesses about, the surest ones first; it tries each share."""


def rate_above(count: int, trials: int, alpha: float) -> float:
    """Return the Clopper-Pearson upper limit of a rate: the true rate is above it with a chance of at most `alpha`."""
    if trials == 0 or count == trials:
        return 1.0
    return float(beta.isf(alpha, count + 1, trials - count))


def rate_between(count: int, trials: int, alpha: float) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval of a rate, wrong with a chance of at most `alpha`."""
    return 1 - rate_above(trials - count, trials, alpha / 2), rate_above(count, trials, alpha / 2)


def two_sided_epsilon(
    false_positives: int, negatives: int, true_positives: int, positives: int, delta: float, confidence: float = 0.95
) -> float:
    """Compute the least epsilon of an (epsilon, delta)-DP mechanism that explains an attack's errors; 0 for no bound.

    Both directions of the definition are used.

    Args:
        false_positives: trials without the canary that the attack called "in".
        negatives: independent trials without the canary.
        true_positives: trials with the canary that the attack called "in".
        positives: independent trials with the canary.
        delta: the delta of epsilon.
        confidence: probability that the bound holds.
    """
    alpha = (1 - confidence) / 2
    false_rate = rate_above(false_positives, negatives, alpha)
    missed_rate = rate_above(positives - true_positives, positives, alpha)
    best = 0.0
    for hit, error in ((1 - delta - missed_rate, false_rate), (1 - delta - false_rate, missed_rate)):
        if hit > error:
            best = max(best, math.log(hit / error))
    return best


def gaussian_mu_bound(trials: int, correct: int, confidence: float = 0.95) -> float:
    """Compute the least mu of a mu-Gaussian-DP mechanism that explains `correct` right guesses of `trials` fair coins.

    No guess is right with a chance above Phi(mu / 2), for any observation.
    """
    surest = 1 - rate_above(trials - correct, trials, 1 - confidence)
    return max(0.0, 2 * float(norm.ppf(surest)))


def errors_at(scores: np.ndarray, included: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """Return (false positives, negatives, true positives, positives) if scores above `threshold` count as "in"."""
    said = scores > threshold
    return int((said & ~included).sum()), int((~included).sum()), int((said & included).sum()), int(included.sum())


def best_two_sided(
    scores: np.ndarray, included: np.ndarray, thresholds: Sequence[float], delta: float, confidence: float
) -> float:
    """Return the best `two_sided_epsilon` over thresholds fixed beforehand; the confidence covers them all."""
    each = 1 - (1 - confidence) / len(thresholds)
    return max(two_sided_epsilon(*errors_at(scores, included, at), delta, each) for at in thresholds)


def one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Bound the chance of at least `correct` right guesses if the run is (epsilon, delta)-DP for each coin.

    Args:
        canaries: number of fair and independent coins.
        guesses: coins that the attack guessed, without its abstentions.
        correct: right guesses.
        epsilon: the hypothesis.
        delta: the hypothesis.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"need 0 <= correct <= guesses <= canaries, got {correct}, {guesses}, {canaries}")
    right = 1 / (1 + math.exp(-epsilon))
    chance = float(bdtrc(correct - 1, guesses, right)) if correct else 1.0
    if delta > 0 and correct > 0:
        fewer = np.arange(1, correct + 1)
        just_below = np.cumsum(binom.pmf(correct - fewer, guesses, right))
        chance += 2 * canaries * delta * float((just_below / fewer).max())
    return min(1.0, chance)


@lru_cache(maxsize=4096)
def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """Return the largest epsilon that the guesses reject, a lower bound that holds with `confidence`; 0 for none."""
    alpha = 1 - confidence
    if one_run_p_value(canaries, guesses, correct, 0.0, delta) > alpha:
        return 0.0
    low, high = 0.0, 1.0
    while one_run_p_value(canaries, guesses, correct, high, delta) <= alpha:
        low, high = high, 2 * high
    for _ in range(24):
        middle = (low + high) / 2
        if one_run_p_value(canaries, guesses, correct, middle, delta) <= alpha:
            low = middle
        else:
            high = middle
    return low


def surest_guesses(scores: np.ndarray, included: np.ndarray, guesses: int) -> int:
    """Count the right guesses: "in" for the highest scores, "out" for the lowest, half of `guesses` each.

    Args:
        scores: (canaries,), higher for canaries that seem included. Ties are broken by position.
        included: (canaries,) bool, the coins.
        guesses: number of guesses.
    """
    order = np.argsort(scores, kind="stable")
    low = guesses // 2
    high = guesses - low
    return int((~included[order[:low]]).sum() + included[order[len(order) - high :]].sum())


def best_one_run(scores: np.ndarray, included: np.ndarray, delta: float, confidence: float) -> tuple[float, int, int]:
    """Return (epsilon, guesses, correct) of the best number of guesses in `GUESSED`; the confidence covers all."""
    each = 1 - (1 - confidence) / len(GUESSED)
    tried = []
    for part in GUESSED:
        guesses = max(1, round(part * len(scores)))
        correct = surest_guesses(scores, included, guesses)
        tried.append((one_run_epsilon(len(scores), guesses, correct, delta, each), guesses, correct))
    return max(tried)
