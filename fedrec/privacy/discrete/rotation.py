"""The public rotation: random signs, then a Hadamard transform, so that every entry of a vector is equally small.

It keeps lengths, so it changes nothing about sensitivity; it only makes room below the modulus. Source: arXiv
2102.06387. The transform goes by digits of radix 16 through BLAS. It is not normalised, and it is EXACT for whole
numbers whose absolute sum stays below 2^53: every order of additions, library and thread count gives equal bits.
"""

import hashlib

import numpy as np

_DIGIT = 4  # bits of an index that one matrix product transforms
_MATRICES = {1: np.ones((1, 1))}
for _bits in range(1, _DIGIT + 1):
    _half = _MATRICES[1 << (_bits - 1)]
    _MATRICES[1 << _bits] = np.block([[_half, _half], [_half, -_half]])


def hadamard(values: np.ndarray) -> np.ndarray:
    """Apply the Hadamard transform to each row; twice is `d` times the identity.

    Args:
        values: (rows, d) float64, d a power of two.

    Returns: (rows, d) float64.
    Raises: ValueError where d is no power of two.
    """
    rows, size = values.shape
    if size < 1 or size & (size - 1):
        raise ValueError(f"the Hadamard transform needs a power of two, got {size} entries")
    left = size.bit_length() - 1
    while left:
        radix = 1 << min(_DIGIT, left)
        # The leading digit is transformed and moves to the end: after all digits each is back in its place.
        values = (values.reshape(rows, radix, size // radix).transpose(0, 2, 1) @ _MATRICES[radix]).reshape(rows, size)
        left -= min(_DIGIT, left)
    return values.copy() if size == 1 else values


def signs(label: str, size: int) -> np.ndarray:
    """Return public random signs, (size,) float64 of -1 and 1: a function of the label alone."""
    drawn = hashlib.shake_256(f"fedrec rotation\0{label}".encode()).digest(-(-size // 8))
    return 1.0 - 2.0 * np.unpackbits(np.frombuffer(drawn, dtype=np.uint8))[:size]


def rotate(values: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Return H D x for each row, sqrt(d) times as long as x.

    Args:
        values: (rows, n) float64; exact for whole numbers whose absolute sum stays below 2^53.
        sign: (d,) of -1 and 1, d a power of two of at least n.
    """
    rows, size = values.shape
    padded = np.zeros((rows, len(sign)))
    padded[:, :size] = values * sign[:size]
    return hadamard(padded)


def unrotate(values: np.ndarray, sign: np.ndarray, size: int) -> np.ndarray:
    """Return D H y / d, the inverse of `rotate`.

    Args:
        values: (d,) float64.
        sign: (d,), as given to `rotate`.
        size: how many entries to return.
    """
    found: np.ndarray = (hadamard(values[None])[0] * sign)[:size] / len(sign)
    return found
