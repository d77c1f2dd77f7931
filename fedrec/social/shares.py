"""A shared taste: the noisy vector that a device releases to its friends, and pays for like any other release.

A friendship is private data of two people. It is in no log, no triple and no message to a server: two devices that both
agreed know it. What a device gives away is its user's vector in the released model's item space, clipped, with Gaussian
noise that the device adds itself. Nobody is trusted: the bound holds against the friend, all friends together, and
anybody who reads what was sent.

Adjacency: any two vectors of the user (local differential privacy), so the sensitivity is twice the clip. Removing a
user with history and friendships changes two things: the user's own share, which is covered, and the friends' lists,
which stay on the friends' devices. Whether somebody shares at all is known to the friends and is not protected.

A share is one release, whatever the number of friends that get it: all get the same bytes. A further one, of a changed
history, has new noise and a new price, which adds up as for all Gaussian releases.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedrec.errors import InputError
from fedrec.privacy.discrete.stream import WordStream
from fedrec.privacy.gaussian_curve import largest_mu
from fedrec.privacy.normals import normals_of

GRID = 1024
"""Steps of a standard deviation to which a share is rounded: it hides the low-order bits of floating-point noise."""
WIDEST = 4096


@dataclass(frozen=True)
class ShareTerms:
    """What a share costs and how it is made. Public, and the same for all friends.

    Attributes:
        space: SHA-256 (hex) of the released model in whose item space the vectors are.
        width: numbers of a vector.
        clip: largest L2 norm of a vector before noise.
        epsilon: of ONE share against any other vector of the same user.
        delta: of the same.
    """

    space: str
    width: int
    clip: float
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not 1 <= self.width <= WIDEST:
            raise InputError(f"share: width {self.width} is not between 1 and {WIDEST}; take a smaller item space")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise InputError(f"share: clip {self.clip} is no positive number; 1 suits vectors of length 1")
        if not 0 < self.epsilon <= 100:
            raise InputError(f"share: epsilon {self.epsilon} is not above 0 and at most 100; a share without noise is "
                             "the history itself")  # fmt: skip
        if not 0 < self.delta < 1:
            raise InputError(f"share: delta {self.delta} is not between 0 and 1; take 1e-5")

    @cached_property
    def mu(self) -> float:
        """Signal-to-noise of a share: sensitivity 2 clip, over the standard deviation."""
        return largest_mu(self.epsilon, self.delta)

    @property
    def std(self) -> float:
        """Standard deviation of the noise on each number."""
        return 2 * self.clip / self.mu


@dataclass(frozen=True)
class Share:
    """A paid release: the only form in which a friend's taste may be used.

    Attributes:
        terms: how it was made.
        made: Unix seconds of its charge, which orders the shares of one device.
        vector: (width,) float64, noisy.
    """

    terms: ShareTerms
    made: int
    vector: np.ndarray


Pay = Callable[[ShareTerms], int]
"""Charge a share, durably, and return the Unix seconds of the charge; raises `BudgetExhausted`."""
FARTHEST = 8.0
"""Standard deviations beyond the usual length of the noise that no honest share has: a chance of 1e-14."""


def fault(found: Share) -> str:
    """Return what shows that a received share was not made by these rules; "" for nothing.

    A friend with code of its own could send a vector of any length, and take over the list. An honest one is no longer
    than the clip and its noise together.
    """
    terms = found.terms
    if found.vector.shape != (terms.width,) or not np.isfinite(found.vector).all():
        return "its vector has another width, or a number that is not finite"
    length, most = float(np.linalg.norm(found.vector)), terms.clip + terms.std * (math.sqrt(terms.width) + FARTHEST)
    return "" if length <= most else f"its vector has the length {length:.3g}, and clip and noise allow {most:.3g}"


def clipped(vector: np.ndarray, clip: float) -> np.ndarray:
    """Return a vector of L2 norm at most `clip`; zeros for one with a number that is not finite."""
    values = np.asarray(vector, np.float64)
    if not np.isfinite(values).all():
        return np.zeros(values.shape)
    top = float(np.abs(values).max(initial=0.0))
    if top == 0.0:
        return np.zeros(values.shape)
    unit = values / top  # so that squares neither overflow nor vanish
    length = float(np.linalg.norm(unit))
    return unit * min(top, clip / length * (1 - 1e-12))


def share(vector: np.ndarray, terms: ShareTerms, pay: Pay, words: WordStream) -> Share:
    """Release a taste to all friends: charge it first, then clip, add noise and round.

    Args:
        vector: (width,) of the user, in the item space of `terms`.
        terms: public.
        pay: charges the share; nothing is released when it raises.
        words: secret words that no other share was made with: two vectors with the same noise show their difference.

    Raises:
        InputError: for a vector of another width.
        BudgetExhausted: when the device cannot pay.
    """
    if np.shape(vector) != (terms.width,):
        raise InputError(f"share: the vector has the shape {np.shape(vector)}, and the terms say ({terms.width},)")
    made = pay(terms)
    drawn = normals_of(words.words(8 * -(-terms.width // 2)))[: terms.width]
    step = terms.std / GRID
    return Share(terms, made, np.round((clipped(vector, terms.clip) + terms.std * drawn) / step) * step)
