"""Bounds as decimals: rounded up, so that the text is a bound too."""

import math


def rounded_up(value: float, digits: int = 4) -> str:
    """Return a bound as text with `digits` decimals that is not below it.

    >>> rounded_up(1.00001)
    '1.0001'
    """
    return f"{ceiling(value, digits):.{digits}f}"


def ceiling(value: float, digits: int) -> float:
    """Return the least number of `digits` decimals that is not below `value`.

    >>> ceiling(0.1234561, 6)
    0.123457
    """
    scale: int = 10**digits
    return math.ceil(value * scale) / scale
