"""What a second release costs those who stay, where a model is trained anew without one user."""

import math

import numpy as np

from fedrec.audit.accountant.recompute import gaussian_epsilon
from fedrec.rounding import rounded_up


def two_gaussians(mu: float, delta: float) -> str:
    """Return epsilon of two releases of the same mu (Gaussian DP) together, at the same delta, rounded up."""
    return rounded_up(float(gaussian_epsilon(np.array(mu * math.sqrt(2)), delta)))
