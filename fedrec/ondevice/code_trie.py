"""The trie of a catalogue's code tuples on a device; see `fedrec.sequences.trie`."""

import numpy as np


class CodeTrie:
    """The prefixes of all items, level by level, in ascending order, so that the children of a prefix are neighbours.

    Attributes:
        paths: for each level (n, level + 1) int64, the codes of each prefix.
        starts: for each level (prefixes before it + 1,) int64, the first child of each prefix, and the end.
        masses: for each level (n,) float64, the logarithm of the popularity below each prefix.
        items: (items,) int64, the item of each whole path.
        of_items: for each level (items,) int64, the prefix of each item.

    Args:
        codes: (items, levels) integers, no two rows alike.
        level: (items,) logarithm of popularity.
    """

    def __init__(self, codes: np.ndarray, level: np.ndarray) -> None:
        self.items = np.lexsort(codes.T[::-1])
        ordered = codes[self.items].astype(np.int64)
        self.paths, self.starts, self.masses, self.of_items = [], [], [], []
        new, above = np.zeros(len(ordered), bool), np.zeros(len(ordered), np.int64)
        new[:1] = True
        popularity = level[self.items].astype(np.float64)
        for length in range(1, codes.shape[1] + 1):
            new[1:] |= np.diff(ordered[:, length - 1]) != 0
            first = np.flatnonzero(new)
            self.paths.append(ordered[first, :length])
            self.starts.append(np.searchsorted(above[first], np.arange(above[-1:].sum() + 2)))
            self.masses.append(log_sums(popularity, first)[0] if len(first) else popularity)
            above = np.cumsum(new) - 1
            placed = np.empty_like(above)
            placed[self.items] = above
            self.of_items.append(placed)
        if len(ordered) and len(first) < len(ordered):
            raise ValueError("two items have the same codes")

    def children(self, level: int, prefixes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the prefixes of `level` below some of the level before, and where those of each begin.

        Args:
            level: from 0.
            prefixes: (m,) int64, of the level before; of level 0 the one without codes, 0.
        """
        first, stop = self.starts[level][prefixes], self.starts[level][prefixes + 1]
        counts = stop - first
        begins = np.cumsum(counts) - counts
        return np.repeat(first - begins, counts) + np.arange(counts.sum()), begins


def log_sums(values: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute log sum exp of neighbours (n,) that begin at `begins` (m,), (m,); and how many they are, (m,)."""
    counts = np.diff(begins, append=len(values))
    largest = np.maximum.reduceat(values, begins)
    return largest + np.log(np.add.reduceat(np.exp(values - np.repeat(largest, counts)), begins)), counts
