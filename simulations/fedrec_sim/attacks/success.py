"""Success of an attack that separates two groups: the area under its curve, with its error."""

import math

import numpy as np
from scipy.stats import rankdata

from fedrec.audit.empirical.lower_bounds import rate_between


def area(scores: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Return area under the ROC curve and standard error (Hanley & McNeil 1982). Ties count half; a coin has 0.5."""
    m, n = int(inside.sum()), int((~inside).sum())
    if not m or not n:
        return 0.5, 0.5
    found = (float(rankdata(scores)[inside].sum()) - m * (m + 1) / 2) / (m * n)
    first, second = found / (2 - found), 2 * found**2 / (1 + found)
    variance = found * (1 - found) + (m - 1) * (first - found**2) + (n - 1) * (second - found**2)
    return found, math.sqrt(max(variance, 0.0) / (m * n))


def area_figures(scores: np.ndarray, inside: np.ndarray) -> dict[str, str]:
    """Return `area` with its standard error, for a record."""
    found, error = area(scores, inside)
    return {"auc": f"{found:.4f}", "standard_error": f"{error:.4f}"}


def share_figures(hits: int, trials: int, confidence: float) -> dict[str, str]:
    """Return a share of hits and its Clopper-Pearson interval, for a record."""
    low, high = rate_between(hits, trials, 1 - confidence)
    return {"share": f"{hits / trials if trials else 0:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}"}
