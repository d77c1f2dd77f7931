"""Waits between tries: exponential backoff with full jitter, so that devices that failed together return apart.

Source: Brooker 2015, "Exponential Backoff And Jitter" (AWS Architecture Blog).
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def _uniform() -> float:
    return secrets.randbits(53) * 2.0**-53


@dataclass(frozen=True)
class Backoff:
    """Waits in seconds.

    Attributes:
        first: longest first wait.
        most: longest wait of all.
        factor: growth of the longest wait at each try.
    """

    first: float = 5.0
    most: float = 900.0
    factor: float = 2.0

    def waits(self, uniform: Callable[[], float] = _uniform) -> Iterator[float]:
        """Yield the waits, each uniform between 0 and its longest. uniform: draws from [0, 1)."""
        longest = self.first
        while True:
            yield uniform() * longest
            longest = min(self.most, longest * self.factor)
