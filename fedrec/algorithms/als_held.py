"""The item side of `als` under privacy: popularity in the first column, and the rest as far as it exceeds the noise.

With the first column fixed, the other columns solve the same least squares for what that column leaves of an item's
statistics. What it leaves in proportion to popularity is popularity once more, so it is taken out; otherwise the most
popular items would show evidence for a direction that ranks everybody alike.
"""

import torch
from torch import Tensor

from fedrec.algorithms.held_rows import kept
from fedrec.parallel import run_jobs
from fedrec.privacy.queries import PrivateSum

LEVEL = 3.0
"""Largest entry of the first column: with smaller ones, users' vectors along it are long, and the clip cuts the rest
(MovieLens-1M at epsilon 8, validation: 1 gives .494 HR@10 of 100, 3 .526, 8 .495)."""


def level(popularity: Tensor) -> Tensor:
    """Return the first column (items, 1): in proportion to popularity."""
    return LEVEL * (popularity / popularity.max())[:, None]


def solved_beside(
    first: Tensor, normal: Tensor, total: Tensor, noise: tuple[float, float], popularity: Tensor, at_once: int
) -> tuple[Tensor, Tensor]:
    """Solve the columns beside the first one.

    Args:
        first: (items, 1), fixed.
        normal: (items, d, d) of the normal equations, ridge included.
        total: (items, d) their right sides.
        noise: standard deviations of an entry of `total`, and of an entry of the weighted Gram matrix in `normal`.
        popularity: (items,), released.
        at_once: items that are solved together.

    Returns:
        The columns (items, d - 1), and the factor (items,) by which each item's row may count.
    """
    rest = total[:, 1:] - normal[:, 1:, 0] * first
    rest = rest - first * (first * rest).sum(0) / first.square().sum()
    of_total, of_gram = noise
    square = first.square()
    # Packed entries off the diagonal have the noise of an entry over sqrt(2).
    std = (of_total**2 * (1 + square / 2) + of_gram**2 * square / 2).sqrt() if of_total else torch.ones_like(first)
    part = kept(PrivateSum(rest / std, float(of_total > 0)), popularity)
    found = torch.empty_like(rest)

    def solve(some: slice) -> None:
        factor, _ = torch.linalg.cholesky_ex(normal[some, 1:, 1:])
        found[some] = torch.cholesky_solve(rest[some, :, None], factor)[:, :, 0]

    run_jobs(solve, ((slice(start, start + at_once),) for start in range(0, len(rest), at_once)), rest.device)
    return found, part
