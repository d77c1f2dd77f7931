"""The factor of banded matrix factorisation: how the noise of a stream of sums is correlated from step to step.

Sources: banded matrix factorisation (Choquette-Choo et al. 2023, arXiv 2306.08153), Toeplitz factors and their
sensitivity (Kalinin & Lampert 2024, arXiv 2405.13763, theorem 2). Different here: few bands, at most the separation, so
that the sensitivity has the short proof below, and it is counted step by step.

A step t of a stream releases x_t + y_t, x_t a sum of clipped contributions. The noise y solves C y = s z, with z
independent standard normals, s their scale, and C lower triangular with C[t, t - i] = c_i for 0 <= i < b. Someone who
adds up the steps 0..t, as gradient descent does, has the noise of the row t of s A C^-1, A the matrix of prefix sums.

**Sensitivity, step by step.** Terms: c_0 = 1 >= c_1 >= ... >= c_{b-1} >= 0; a user takes part in steps that are at
least b apart, each time with a contribution of norm at most 1 (the clip). Given all earlier releases, the release of
step t fixes w_t = sum_i c_i (x + y)_{t-i} = (C x)_t + s z_t, and is fixed by it, since c_0 = 1. The others' part of
(C x)_t is the same with and without the user: it follows from the earlier releases. The user's part is c_i u, where i
is the number of steps since the user's last participation, u that contribution; it is 0 for i >= b. At most ONE
participation lies in the b steps that enter. So step t is a Gaussian mechanism with sensitivity c_i and noise s, also
where contributions depend on earlier releases (Denisov et al. 2022, arXiv 2202.08312, prove it for any factor). The
squared signal-to-noise c_i^2 / s^2 adds up over steps (Gaussian DP; Smith & Thakurta 2022 where a run may stop).

A user whose first participation is step f pays at most the sum over t >= f of c_{(t - f) mod b}^2 / s^2. Up to any step
this is a prefix of the sum for f = 0, so it is at most the charge, which is that of f = 0. Over T steps it is
||sum of the columns 0, b, 2b, ...||^2, the theorem's k = ceil(T / b) columns: no bound is smaller.

A stream may begin anew at any step, with noise that is independent of the earlier: the same proof holds for the steps
from there on, in which the first one is charged as c_0.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.optimize import minimize

from fedrec.errors import PrivacyError

DECIMALS = 4
"""Of a coefficient. The error is flat at the optimum, and no last bit of a processor decides on a run's terms."""
MOST_STEPS = 10_000


@dataclass(frozen=True)
class Factor:
    """The coefficients (b,) of C for a stream of `steps` steps.

    Attributes:
        coefficients: c_0 = 1 and the others, not increasing, not negative.
        steps: steps of the stream, at least 1.

    Raises: PrivacyError for coefficients that the proof does not cover.
    """

    coefficients: tuple[float, ...]
    steps: int

    def __post_init__(self) -> None:
        given = self.coefficients
        falls = all(before >= after >= 0 for before, after in itertools.pairwise(given))
        if not given or given[0] != 1 or not falls or self.steps < 1:
            raise PrivacyError("a factor needs coefficients that begin with 1 and never rise or pass 0; take `optimal`")

    def shift(self, step: int) -> float:
        """Return the sensitivity of a step to the user who took part first, in clips."""
        return self.coefficients[step % len(self.coefficients)]

    def squared_sensitivity(self, steps: int) -> float:
        """Return the squared sensitivity of the first steps together, in squared clips.

        Args:
            steps: how many, at least 0.
        """
        squares = np.square(self.coefficients)
        whole, rest = divmod(steps, len(squares))
        return float(whole * squares.sum() + squares[:rest].sum())

    @property
    def sensitivity(self) -> float:
        """The L2 sensitivity of the whole stream, in clips."""
        return float(np.sqrt(self.squared_sensitivity(self.steps)))

    @cached_property
    def spread(self) -> np.ndarray:
        """(steps,) standard deviation of y in units of s, step by step: row norms of C^-1."""
        widths: np.ndarray = np.sqrt(np.cumsum(np.square(_solved(np.array(self.coefficients), _first(self.steps)))))
        return widths

    @property
    def error(self) -> float:
        """Root mean square, over steps, of the noise on the sum of all steps so far, at one clip of noise a unit of
        sensitivity: the quantity that `optimal` minimises, with s = sensitivity."""
        return float(np.sqrt(np.exp(_log_error(np.array(self.coefficients[1:]), self.steps)[0])))


def independent_error(steps: int, participations: float) -> float:
    """Return `Factor.error` of independent noise.

    Args:
        steps: of the stream.
        participations: of a user, at most.
    """
    return float(np.sqrt(participations * (steps + 1) / 2))


@lru_cache(maxsize=256)
def optimal(steps: int, separation: int) -> Factor:
    """Find the factor with the least `error`, by L-BFGS from the square root of A, which no restart has improved.

    Args:
        steps: of the stream, at least 1.
        separation: b, fewest steps between two participations of a user; 1 gives independent noise.
    Raises: PrivacyError for a stream that is shorter than the separation, or too long.
    """
    if not 1 <= separation <= steps:
        raise PrivacyError(f"privacy.separation = {separation}: a stream of {steps} rounds needs 1 to {steps}")
    if steps > MOST_STEPS:
        raise PrivacyError(f"correlated noise over {steps} rounds: at most {MOST_STEPS} are offered")
    if separation == 1:
        return Factor((1.0,), steps)
    places = np.arange(1, separation)
    start = np.cumprod((2 * places - 1) / (2 * places))  # of 1 / sqrt(1 - x)
    found = minimize(
        _log_error, start, args=(steps,), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-13}
    ).x
    falling = np.minimum.accumulate(np.round(np.clip(found, 0.0, 1.0), DECIMALS))
    return Factor((1.0, *map(float, falling)), steps)


def _first(steps: int) -> np.ndarray:
    first = np.zeros(steps)
    first[0] = 1.0
    return first


def _solved(coefficients: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the solution v (steps,) of C v = right."""
    solution = np.zeros(len(right))
    later = coefficients[:0:-1]  # c_{b-1}, ..., c_1
    for step, value in enumerate(right):
        known = solution[max(0, step - len(later)) : step]
        solution[step] = value - later[len(later) - len(known) :] @ known
    return solution


def _log_error(later: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    """Return log of (squared error) and its gradient in c_1, c_2, ... (b - 1,).

    A C^-1 is a Toeplitz matrix with the column d = the prefix sums of C^-1's; its mean squared row norm is
    sum_i (T - i) d_i^2 / T.
    """
    coefficients = np.concatenate([[1.0], later])
    bands = len(coefficients)
    column = _solved(coefficients, np.ones(steps))
    weighted = (steps - np.arange(steps)) * column
    rows = float(weighted @ column)
    slope = _solved(coefficients, column)  # d column_i / d c_j = -slope_{i - j}
    downhill = np.array([weighted[j:] @ slope[: steps - j] for j in range(1, bands)])
    whole, rest = divmod(steps, bands)
    times = whole + (np.arange(bands) < rest)  # columns whose entry c_j lies in the first `steps` rows
    squared = float(times @ np.square(coefficients))
    gradient = -2 * downhill / rows + 2 * (times * coefficients)[1:] / squared
    return float(np.log(rows / steps) + np.log(squared)), gradient
