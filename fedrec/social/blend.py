"""What a device does with its friends' shares: a mean taste, weighed by how much of it is noise. Nothing leaves it."""

from collections.abc import Sequence

import numpy as np

from fedrec.errors import InputError
from fedrec.social.shares import Share, fault


def friends_taste(shares: Sequence[Share], space: str) -> tuple[np.ndarray, float]:
    """Compute the mean of friends' shares and how much of it is likely signal.

    Every friend counts alike, whatever noise its share claims, so that no claim gains weight.

    Args:
        shares: one of each friend, with one width and clip.
        space: SHA-256 (hex) of the released model that this device has.

    Returns:
        The mean (width,), and a factor from 0 to 1: clip^2 / (clip^2 + squared length of the mean's noise), the weight
        of the best linear estimate of a taste as long as the clip.

    Raises:
        InputError: for what is no paid share, or belongs to another model.
    """
    if not shares:
        raise InputError("friends: there is no share; a list without friends needs none")
    for each in shares:
        if not isinstance(each, Share):
            raise InputError(
                f"friends: {type(each).__name__} is no share; a friend's own vector, or a graph over such vectors, has "
                "no noise and no price: the friend's device makes a share"
            )
        if each.terms.space != space:
            raise InputError(f"friends: a share is of model {each.terms.space[:12]}, and this device has {space[:12]}")
        if (each.terms.width, each.terms.clip) != (shares[0].terms.width, shares[0].terms.clip):
            raise InputError("friends: shares have different terms; use those of one width and clip")
        if wrong := fault(each):
            raise InputError(f"friends: leave one friend out: {wrong}")
    terms = shares[0].terms
    mean = np.mean([each.vector for each in shares], axis=0)
    noise = terms.width * float(np.mean([each.terms.std**2 for each in shares])) / len(shares)
    return mean, terms.clip**2 / (terms.clip**2 + noise)


def taste(rows: np.ndarray) -> np.ndarray:
    """Return a user's vector for friends: the mean of the item rows of the history, each of length 1, at length 1.

    Args:
        rows: (n, width) of the released model.

    Returns:
        (width,); zeros without rows.
    """
    total = unit(rows).sum(0)
    length = float(np.linalg.norm(total))
    return total / length if length > 0 else total


def bonus(own: np.ndarray, rows: np.ndarray, shares: Sequence[Share], space: str, weight: float = 1.0) -> np.ndarray:
    """Compute what friends' mean taste adds to a user's own scores, on the user's device.

    The likeness of items to the taste has the spread of the own scores, so no share moves the list further than that.

    Args:
        own: (items,) scores of the released model for the user's own history.
        rows: (items, width) the released model's item vectors.
        shares: of the friends, at least one.
        space: SHA-256 (hex) of the released model.
        weight: of friends without noise, at least 0.

    Returns:
        (items,) to add to `own`. A factor of `friends_taste` weighs noisy shares down.

    Raises:
        InputError: as `friends_taste`, or for shapes that do not fit.
    """
    if not (np.isfinite(weight) and weight >= 0):
        raise InputError(f"friends: weight {weight} is no number from 0")
    mean, trust = friends_taste(shares, space)
    if rows.shape != (len(own), len(mean)):
        raise InputError(f"friends: item vectors {rows.shape} do not fit {len(own)} scores and shares of {len(mean)}")
    alike = unit(rows) @ mean
    spread = float(alike.std())
    if not spread > 0:
        return np.zeros(len(own))
    found: np.ndarray = weight * trust * float(own.std()) / spread * (alike - alike.mean())
    return found


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, width) at length 1, float64; a row of zeros stays."""
    wide = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: np.ndarray = wide / np.where(lengths > 0, lengths, 1.0)
    return scaled
