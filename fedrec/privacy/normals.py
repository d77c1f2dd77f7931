"""Standard normals of secret random words, with numpy alone, for devices and for a run's noise.

Sources: Box-Muller; the sum of four normals against attacks on floating-point noise (Holohan & Braghin 2021, "Secure
Random Sampling in Differential Privacy").
"""

import numpy as np

SUMMED = 4
"""Normals of which each one here is the scaled sum."""


def uniform(words: np.ndarray) -> np.ndarray:
    """Return uniforms with 53 bits in (0, 1], float64, of words (n,) uint64."""
    return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53


def normals_of(words: np.ndarray) -> np.ndarray:
    """Return standard normals, (n / 4,) float64, of words (n,) uint64; n is a multiple of 8."""
    drawn = uniform(words).reshape(2, SUMMED, -1)
    radius = np.sqrt(-2.0 * np.log(drawn[0]))  # (4, n / 8)
    angle = 2.0 * np.pi * drawn[1]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)  # (4, n / 4)
    found: np.ndarray = both.sum(axis=0) / np.sqrt(SUMMED)
    return found
