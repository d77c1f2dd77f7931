"""Exact products of float32 rows with a float64 vector: each depends on its own row alone."""

import numpy as np


def products(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """<row, vector> for rows (n, d), in float64, (n,).

    A library's matrix product may sum in another order when n differs. Here a row's product is the same in any set.
    """
    return np.add.reduce(np.multiply(rows, vector, dtype=np.float64), axis=1)
