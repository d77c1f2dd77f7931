"""Moments of the posterior of a log-normal number behind Gaussian noise, for a million items at once.

The posterior depends on two numbers, the noisy value and the prior mean. Both moments are smooth in them, so a large
catalogue reads them from a table by cubic interpolation; a small one computes them item by item on the grid.
"""

import math

import torch
from torch import Tensor

GRID = 200  # points of the posterior's grid, evenly in the logarithm
CLEAR = 8.0  # a release this many deviations above zero is taken as it is
FINENESS = 8  # points of the table for each standard deviation, of the noise and of the prior
PAYS = 4  # the table must have this many times fewer entries than there are items


class LogPosterior:
    """E[log p] and Var[log p] of values p >= floor behind noise.

    Args:
        noisy: values plus noise, (items,).
        sigma: standard deviation of the noise.
        floor: least value of p.
        table: False computes every item on the grid, whatever the size of the catalogue.

    Attributes:
        middle: centre of the grid of log p, a first guess of the prior mean.
    """

    def __init__(self, noisy: Tensor, sigma: float, floor: float, *, table: bool = True) -> None:
        top = torch.log(noisy.max().clamp(min=10 * floor) / floor)
        self.log_grid = torch.linspace(0, 1, GRID, device=noisy.device) * top + math.log(floor)
        self.grid = self.log_grid.exp()
        self.noisy, self.sigma, self.table = noisy, sigma, table
        self.middle = float(self.log_grid.mean())

    def moments(self, part: slice, mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of log p under a normal prior.

        Args:
            part: the items that are asked for, n of them.
            mean: prior mean of each, (n,).
            variance: prior variance, the same for all.

        Returns:
            Two tensors (n,).
        """
        noisy, sigma = self.noisy[part], self.sigma
        clear = noisy > CLEAR * sigma  # the prior has no effect here, and a grid would only make ties
        level = noisy.clamp(min=sigma)
        expected, spread = level.log(), (sigma / level) ** 2
        rest = torch.nonzero(~clear)[:, 0]
        if len(rest):
            expected[rest], spread[rest] = self._of(noisy[rest], mean[rest], variance)
        return expected, spread

    def _of(self, noisy: Tensor, mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        usual = noisy.clamp(min=-CLEAR * self.sigma)
        rows = _axis(usual.min(), usual.max(), self.sigma / FINENESS)
        columns = _axis(mean.min(), mean.max(), variance**0.5 / FINENESS)
        if not self.table or PAYS * len(rows) * len(columns) > len(noisy):
            return self._exact(noisy, mean, variance)
        both = self._exact(rows.repeat_interleave(len(columns)), columns.repeat(len(rows)), variance)
        found = _interpolated(torch.stack(both, 1), rows, columns, noisy, mean)
        far = torch.nonzero(noisy < rows[1])[:, 0]  # next to none: so much noise hardly ever happens
        if len(far):
            found[far] = torch.stack(self._exact(noisy[far], mean[far], variance), 1)
        return found[:, 0], found[:, 1].clamp(min=0)

    def _exact(self, noisy: Tensor, mean: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        """On the grid, item by item: noisy and mean (n,)."""
        natural = torch.stack([noisy / self.sigma**2, mean / variance], 1)  # (n, 2)
        statistics = torch.stack([self.grid, self.log_grid])  # (2, GRID)
        base = -((self.grid / self.sigma) ** 2 + self.log_grid**2 / variance) / 2
        weight = torch.softmax(torch.addmm(base, natural, statistics), 1)
        expected, square = (weight @ torch.stack([self.log_grid, self.log_grid**2], 1)).unbind(1)
        return expected, (square - expected**2).clamp(min=0)


def _axis(low: Tensor, high: Tensor, step: float) -> Tensor:
    """Points `step` apart from one step below `low` to beyond `high`, four at least."""
    count = int((high - low) / step) + 4
    return low + step * torch.arange(-1, count - 1, device=low.device)


def _interpolated(table: Tensor, rows: Tensor, columns: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cubic interpolation between the 4 x 4 nearest points, (n, k); table (rows * columns, k), x and y (n,)."""
    row, by_row = _nearest(rows, x)
    column, by_column = _nearest(columns, y)
    strips = table.view(len(rows), len(columns), -1).unfold(1, 4, 1)  # (rows, columns - 3, k, 4)
    near = row[:, None] + torch.arange(4, device=row.device)  # (n, 4)
    found = strips.flatten(0, 1).flatten(1)[near * strips.shape[1] + column[:, None]]  # (n, 4, k * 4)
    found = torch.bmm(by_row[:, None], found).view(len(x), -1, 4)  # (n, k, 4)
    return torch.bmm(found, by_column[:, :, None])[:, :, 0]


def _nearest(axis: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the four points around each value, (n,), and Lagrange's weights for the four, (n, 4)."""
    place = (values - axis[0]) / (axis[1] - axis[0])
    first = place.long().clamp(1, len(axis) - 3) - 1
    t = place - first - 1
    weights = (-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2)
    return first, torch.stack([*weights, (t + 1) * t * (t - 1) / 6], 1)
