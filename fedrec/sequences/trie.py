"""The trie of a catalogue's code tuples: which codes may follow which, and how popular each prefix is.

A model over semantic ids predicts an item's codes one after the other. Among the codes that may follow a prefix, only
those of real items count, so the probabilities of all items sum to one. Everything follows from public codes and the
released popularity.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The prefixes of one length.

    Attributes:
        paths: (n, length) int64, the codes of each prefix, in ascending order.
        parents: (n,) int64, the prefix without its last code, a row of the level before.
        of_items: (items,) int64, the prefix of each item.
    """

    paths: Tensor
    parents: Tensor
    of_items: Tensor

    def __len__(self) -> int:
        return len(self.paths)


class CodeTrie:
    """The prefixes of all items, level by level.

    Args:
        codes: (items, levels) int64, the tuple of each item; no two items have the same one (`codes.distinct`).
    """

    def __init__(self, codes: Tensor) -> None:
        self.codes, self.levels = codes, []
        above = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        for length in range(1, codes.shape[1] + 1):
            paths, of_items = torch.unique(codes[:, :length], dim=0, return_inverse=True)
            parents = torch.zeros(len(paths), dtype=torch.int64, device=codes.device).scatter(0, of_items, above)
            self.levels.append(Level(paths, parents, of_items))
            above = of_items

    def masses(self, level: Tensor) -> list[Tensor]:
        """Sum the popularity below each prefix.

        Args:
            level: (items,) logarithm of popularity.

        Returns:
            For each level (n,): the logarithm of the sum.
        """
        return [log_sums(level[None], each.of_items, len(each))[0] for each in self.levels]

    def priors(self, level: Tensor, sizes: list[int], never: float) -> list[Tensor]:
        """Return the logarithm of the popularity of each code after each prefix.

        Args:
            level: (items,) logarithm of popularity.
            sizes: different codes of each level.
            never: value of a code that follows no such prefix.

        Returns:
            For each level (prefixes before it, size).
        """
        found, above = [], 1
        for each, size, mass in zip(self.levels, sizes, self.masses(level), strict=True):
            table = mass.new_full((above, size), never)
            table[each.parents, each.paths[:, -1]] = mass
            found.append(table)
            above = len(each)
        return found


def log_sums(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Compute log sum exp of values (B, n) within groups (n,) int64 of columns: (B, count). Every group has one."""
    place = groups.expand(len(values), -1)
    largest = values.new_full((len(values), count), -torch.inf).scatter_reduce(1, place, values, "amax")
    sums = torch.zeros_like(largest).scatter_add(1, place, (values - largest.gather(1, place)).exp())
    return largest + sums.log()
