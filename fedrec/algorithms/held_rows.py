"""Item vectors that leave the released popularity only as far as their sums exceed the noise.

Training under noise moves every row of a table, those that nobody taught anything like the others. Here rows are put
into groups of like popularity, since popular items are taught more. A group keeps the part of its movement by which
the energy of its released sums exceeds what their public noise explains: the rule of James and Stein 1961, positive
part, with a margin for chance. A group within the noise stays at the start; where all groups do, a model ranks by
popularity. Everything is post-processing of private sums, free of budget. Without noise nothing is held.

A score is a product of an item's row with a vector that a device makes of such rows. So rows are multiplied by the
square root of the part that is kept.
"""

import math
from collections.abc import Container, Mapping

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.kernels.evidence import beyond_chance
from fedrec.privacy.queries import PrivateSum
from fedrec.towers.adapters import SIGNAL

EVIDENCE, NOISE = "evidence", "evidence noise"
"""Names in the shared state of the sum of a table's released gradients, and of the variance of its entries' noise."""
HELD = frozenset({EVIDENCE, NOISE})

FIRST = 32  # rows of the group of the most popular items; each further group has twice as many
ENOUGH = 0.05  # part of a table that the plan must pay for until popularity gets no more than its least share
LARGEST_SHARE = 0.9  # of the budget for popularity, where the plan cannot pay for a table at all


def affordable(facts: PublicFacts, share: float, rounds: int) -> float:
    """Return how many parameters the plan can pay for: with more, noise outweighs what users teach.

    P = (.08 x users x mu / sqrt(rounds))^2 with mu of the training's share, measured on MovieLens-1M. Infinite without
    privacy.
    """
    strength = facts.strength * math.sqrt(share)
    return math.inf if math.isinf(strength) else (SIGNAL * strength) ** 2 / rounds


def popularity_budget(facts: PublicFacts, least: float, size: int, rounds: int) -> float:
    """Return the part of a private budget for popularity: more of it, the less the plan can pay for a table.

    Args:
        facts: the public facts of the run.
        least: the part where the plan pays for enough of the table.
        size: entries of the table.
        rounds: of training.
    """
    paid = affordable(facts, 1.0, rounds) / size
    return least + (max(least, LARGEST_SHARE) - least) * (1 - min(1.0, paid / ENOUGH))


def no_evidence(table: Tensor) -> Shared:
    """Return the part of the shared state before the first sum: evidence for a table (items, w)."""
    return {EVIDENCE: torch.zeros_like(table), NOISE: torch.zeros((), device=table.device)}


def gathered(shared: Shared, release: Tensor, noise_std: float) -> Shared:
    """Return the part of the shared state after one more sum; empty where no evidence is kept.

    Args:
        shared: the state before.
        release: the private sum of the table's gradients; its leading entries are those of the table.
        noise_std: of each entry.
    """
    if EVIDENCE not in shared:
        return {}
    before = shared[EVIDENCE]
    one = release.flatten()[: before.numel()].view(before.shape)
    return {EVIDENCE: before + one, NOISE: shared[NOISE] + noise_std**2}


def kept(release: PrivateSum, popularity: Tensor) -> Tensor:
    """Return the factor of each row's movement, (items,) in [0, 1].

    Args:
        release: (items, k) the sum that moved the rows, with the noise of its entries.
        popularity: (items,), released; it orders the rows.
    """
    items, width = release.value.shape
    energy = release.value.double().square().sum(1)
    variance = release.noise_std**2
    found = torch.zeros(items, dtype=torch.float64, device=energy.device)
    if not variance:
        return torch.ones_like(found).float() if bool(energy.any()) else found.float()
    order = popularity.argsort(descending=True, stable=True)
    for some in order.split(_groups(items)):
        found[some] = beyond_chance(float(energy[some].sum()) / variance, len(some) * width)
    return found.sqrt().float()


def held(table: Tensor, start: Tensor, kept_part: Tensor, target: Tensor) -> Tensor:
    """Return a table for release, (items, w): `target` plus what is kept of the movement.

    Args:
        table: (items, w) after training.
        start: (items, w) before it, with random entries that only break symmetry.
        kept_part: (items,) as from `kept`.
        target: (items, w) where rows stay.
    """
    return target + kept_part[:, None].to(table.dtype) * (table - start)


def kept_whole(release: PrivateSum) -> float:
    """Return the factor of the movement of one tensor that is judged as a whole.

    Args:
        release: the sum that moved it, with the noise of its entries.
    """
    energy, count = float(release.value.double().square().sum()), release.value.numel()
    if not release.noise_std:
        return float(energy > 0)
    return math.sqrt(beyond_chance(energy / release.noise_std**2, count))


def held_parameters(
    moved: Tensor, start: Mapping[str, Tensor], shared: Shared, rows: Container[str], *, from_zero: bool
) -> Tensor:
    """Return a network's parameters for release, (P,): each tensor as far as its sums exceed the noise.

    Args:
        moved: (P,) after training, in the order of `start`.
        start: the tensors before it, by name.
        shared: with evidence of all parameters, and `popularity` (items,), released.
        rows: names of the tensors with one row an item, whose rows are held by popularity.
        from_zero: rows go back to zero, since their start is random; False: to their start.
    """
    std = float(shared[NOISE]) ** 0.5
    sizes = [value.numel() for value in start.values()]
    found = []
    parts = zip(start.items(), moved.split(sizes), shared[EVIDENCE].split(sizes), strict=True)
    for (name, begun), part, evidence in parts:
        part, release = part.view(begun.shape), PrivateSum(evidence.view(begun.shape), std)
        if name in rows:
            target = torch.zeros_like(begun) if from_zero else begun
            found.append(held(part, begun, kept(release, shared["popularity"]), target))
        else:
            found.append(begun + kept_whole(release) * (part - begun))
    return torch.cat([part.flatten() for part in found])


def _groups(items: int) -> list[int]:
    """Lengths of the groups: 32, 64, 128, ...; the last one takes what would be less than half a group."""
    lengths: list[int] = []
    size = FIRST
    while sum(lengths) < items:
        rest = items - sum(lengths)
        lengths.append(size if rest - size > size else rest)
        size *= 2
    return lengths
