"""The best attack: the share of participants that it finds at a given rate of false alarms.

The attacker has all data except whether one person took part, and tests for it. FPR is the rate of false alarms, TPR
that of hits. Gaussian releases of total signal-to-noise mu have exactly TPR = Phi(Phi^-1(FPR) + mu) (Dong, Roth & Su
2022). Every pair (epsilon, delta) bounds it by min(e^epsilon FPR + delta, 1 - e^-epsilon (1 - delta - FPR)) (Kairouz
et al. 2015), and so does the least over all pairs. This module needs the standard library alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
EVEN_STEPS = 200
FALSE_ALARMS = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Tradeoff:
    """A bound on every attack.

    Attributes:
        mu: total signal-to-noise of plain Gaussian releases; None for others, for which no equality is known.
        bounds: pairs (epsilon, delta) that hold together; infinite epsilons are left out.
    """

    mu: float | None = None
    bounds: tuple[tuple[float, float], ...] = ()

    @property
    def exact(self) -> bool:
        """True if the best attack reaches the curve."""
        return self.mu is not None

    def tpr(self, fpr: float) -> float:
        """Return the largest rate of hits at a rate of false alarms `fpr` in [0, 1]; 1 without a bound."""
        if self.mu is not None:
            return _gaussian(self.mu, fpr)
        return min([1.0, *(envelope(epsilon, delta, fpr) for epsilon, delta in self.bounds)])

    def best_guess(self) -> float:
        """Return the probability that the best guess is right if both cases are equally likely; 0.5 is a coin toss."""
        if self.mu is not None:
            return _cdf(self.mu / 2)
        advantages = [total_variation(epsilon, delta) for epsilon, delta in self.bounds]
        return 0.5 + min([1.0, *advantages]) / 2


def envelope(epsilon: float, delta: float, fpr: float) -> float:
    """Compute the largest rate of hits, in [0, 1], that (epsilon, delta) alone allows."""
    if epsilon > 700:  # beyond the exponentials of a float64
        return 1.0
    up = math.exp(epsilon) * fpr + delta
    down = 1 - math.exp(-epsilon) * (1 - delta - fpr)
    return max(0.0, min(1.0, up, down))


def total_variation(epsilon: float, delta: float) -> float:
    """Compute the largest TPR - FPR that (epsilon, delta) alone allows."""
    return math.tanh(epsilon / 2) + (1 - math.tanh(epsilon / 2)) * delta


def certainty(tpr: float, fpr: float, prior: float) -> float:
    """Return the probability, after an alarm, that the person took part, for a belief of `prior` before."""
    hits, false_alarms = tpr * prior, fpr * (1 - prior)
    return hits / (hits + false_alarms) if hits + false_alarms else prior


def grid() -> Sequence[float]:
    """Return rates of false alarms for drawing a curve: even steps, and finer ones near 0 and 1 where it is steep."""
    fine = [10 ** (-5 + step / 8) for step in range(24)]
    return sorted({0.0, 1.0, *fine, *(1 - f for f in fine), *(k / EVEN_STEPS for k in range(EVEN_STEPS))})


def _gaussian(mu: float, fpr: float) -> float:
    if fpr <= 0 or fpr >= 1:
        return min(1.0, max(0.0, fpr))
    return _cdf(_NORMAL.inv_cdf(fpr) + mu)


def _cdf(x: float) -> float:
    """Compute the normal distribution function, exact in the tails too (`NormalDist.cdf` has absolute precision)."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
