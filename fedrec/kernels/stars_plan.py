"""Public numbers of the release of mean ratings, without torch: server and device share them."""

QUERY = "popularity and ratings"
"""Name of the sum."""
NAME = "mean rating"
"""Name of the kernel, as explanations have it."""
SHARE = 0.15
"""Part of the usual squared norm of a contribution that ratings have; popularity has the rest."""
ENERGY = 0.25
"""Mean square of a user's ratings about their own mean, in halves of the scale squared, that is usual: a deviation of
one star of five. Public and not counted from a log."""
SPREAD = 0.25
"""Unit of mean ratings, in halves of the scale: half a star of five."""
PLACES = (-2.5, 2.5, 11)
"""Lowest and highest place of the kernel's bumps, in units of `SPREAD`, and their number."""
WIDTH = 0.5
"""Standard deviation of a bump, in the same unit."""
VARIANCE = 0.25
"""Of a rating around the mean of its item, in halves of the scale squared."""


def parts() -> tuple[float, float]:
    """Return the factors of popularity and of ratings in a contribution."""
    return (1 - SHARE) ** 0.5, (SHARE / ENERGY) ** 0.5
