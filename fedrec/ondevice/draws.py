"""The draws of `fedrec.draws` with numpy, bit for bit: the order of equal scores, and a device's local negatives."""

import numpy as np

_GAMMA, _M1, _M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, element by element, on uint64."""
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


def keys(seed: int, index: np.ndarray) -> np.ndarray:
    """One key for each entry of `index`, as `fedrec.draws.keys`, (n,) uint64."""
    return mix(mix(np.asarray(index).astype(np.uint64) * _GAMMA + np.uint64(seed & 0x7FFFFFFFFFFFFFFF)) + _GAMMA)


def uniform(key: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Uniform draws in [0, 1), (len(key), count) float64."""
    position = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 32)
    return (mix(key[:, None] + position * _GAMMA) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def tie_order(items: np.ndarray) -> np.ndarray:
    """The keys by which items (n,) of equal score are ordered, ascending, (n,) int64; the same for every user."""
    return keys(0, items).view(np.int64)
