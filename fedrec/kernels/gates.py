"""Gates: how well each kernel predicted a person's own last steps, computed on the device and free of budget.

A step is one event after another. Where a kernel's values of the newest steps exceed its usual size, the person follows
what the kernel compares, and its features count for more. A gate is a function of the person's own history alone, and
what it is multiplied with is learned with the other weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedrec import draws
from fedrec.kernels.feature_map import FeatureMap
from fedrec.kernels.negatives import items_at, running_mass

STEPS = 10  # newest steps of a history that are compared
MOST = 3.0  # absolute value of a gate
LEAST = 1e-3  # root mean square of a kernel that has no values
PAIRS = 1 << 15  # drawn by popularity, for the root mean square of a kernel
STREAM = 5


def gated_columns(decays: tuple[float, ...]) -> tuple[int, ...]:
    """The decays whose features are gated: the middle one and the last; none where no decay depends on the order."""
    if all(decay == 1 for decay in decays):
        return ()
    return tuple(sorted({len(decays) // 2, len(decays) - 1}))


def step_values(maps: Mapping[str, FeatureMap], means: Mapping[str, Tensor], older: Tensor, newer: Tensor) -> Tensor:
    """Each kernel's centred value of steps from items `older` (n,) to items `newer` (n,): (n, kernels)."""
    found = [map_.between(older, newer, means[name]) for name, map_ in maps.items()]
    return torch.stack(found, 1) if found else torch.zeros(len(older), 0, device=older.device)


def kernel_sizes(maps: Mapping[str, FeatureMap], means: Mapping[str, Tensor], popularity: Tensor) -> Tensor:
    """Root mean square of each kernel's centred values between two items that are drawn by popularity, (kernels,).

    Args:
        maps: kernels by name.
        means: their mean profiles, (width,) each.
        popularity: of each item, >= 0 with a positive sum, (items,). It must be released.
    """
    uniform = draws.uniform(torch.zeros(1, dtype=torch.int64, device=popularity.device), STREAM, 2 * PAIRS)[0]
    older, newer = items_at(running_mass(popularity), uniform).view(2, -1)
    return step_values(maps, means, older, newer).square().mean(0).sqrt().clamp(min=LEAST)


def gates(met: Tensor, count: Tensor, moves: Tensor, sizes: Tensor) -> Tensor:
    """Gates of B people, (B, kernels), in [-MOST, MOST]; 0 for people without steps or whose order is unknown.

    Args:
        met: values of the newest steps, 0 where there is none, (B, STEPS, kernels).
        count: events of each, (B,).
        moves: whose order is known, (B,) bool.
        sizes: of `kernel_sizes`, (kernels,).
    """
    steps = (count - 1).clamp(0, STEPS)[:, None]
    found = (2 * met.sum(1) / steps.clamp(min=1) / sizes - 1).clamp(-MOST, MOST)
    return torch.where(moves[:, None] & (steps > 0), found, 0.0)
