"""The Merkle tree of a log: a root that fixes all leaves, and short proofs of its content and growth.

Source: RFC 6962, section 2.1 (hashes, audit paths, consistency proofs); the checks are those of RFC 9162, section 2.1.
Different here: `Frontier` keeps only the roots of the whole subtrees, so that a log that grows never hashes a leaf
twice. All hashes are 32 bytes of SHA-256.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""
SIZE = 32
"""Bytes of a hash."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of one leaf's content."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that grows at the end: `size` leaves, held as the roots of its whole subtrees, largest first."""

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._roots: list[bytes] = []
        for leaf in leaf_hashes:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add a leaf, given by its hash. Amortised constant time."""
        self._roots.append(leaf)
        self.size += 1
        full = self.size
        while full % 2 == 0:
            right = self._roots.pop()
            self._roots[-1] = _node(self._roots[-1], right)
            full //= 2

    def root(self) -> bytes:
        """Return the root over all leaves so far; `EMPTY` for none. Logarithmic time."""
        if not self._roots:
            return EMPTY
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = _node(left, root)
        return root


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over `leaf_hashes`."""
    return Frontier(leaf_hashes).root()


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from leaf `index` up to the root, lowest first (PATH of RFC 6962).

    Raises:
        IndexError: when there is no such leaf.
    """
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf {index} of {len(leaf_hashes)}")
    path: list[bytes] = []
    low, high = 0, len(leaf_hashes)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root(leaf_hashes[middle:high]))
            high = middle
        else:
            path.append(root(leaf_hashes[low:middle]))
            low = middle
    return path[::-1]


def consistency_path(leaf_hashes: Sequence[bytes], old: int) -> list[bytes]:
    """Return the hashes that prove the tree of the first `old` leaves a beginning of this one (PROOF of RFC 6962).

    Empty for the whole tree, and for no leaves, which begin everything.

    Raises:
        IndexError: when `old` is too many.
    """
    if not 0 <= old <= len(leaf_hashes):
        raise IndexError(f"the first {old} leaves of {len(leaf_hashes)}")
    if old in (0, len(leaf_hashes)):
        return []
    path: list[bytes] = []
    low, high, whole = 0, len(leaf_hashes), True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(root(leaf_hashes[middle:high]))
            high = middle
        else:
            path.append(root(leaf_hashes[low:middle]))
            low, whole = middle, False
    return ([] if whole else [root(leaf_hashes[low:high])]) + path[::-1]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Return whether `path` proves that `leaf` (a hash) is number `index` of the `size` leaves under the root."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0 or len(sibling) != SIZE:
            return False
        if place % 2 == 1 or place == last:
            found = _node(sibling, found)
            while place % 2 == 0 and place != 0:
                place, last = place // 2, last // 2
        else:
            found = _node(found, sibling)
        place, last = place // 2, last // 2
    return last == 0 and found == expected_root


def consistent(old: int, old_root: bytes, size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Return whether `path` proves that the tree of `old` leaves is a beginning of the one of `size` leaves."""
    if not 0 <= old <= size or any(len(each) != SIZE for each in path):
        return False
    if old == 0:
        return not path and old_root == EMPTY
    if old == size:
        return not path and old_root == new_root
    proof = list(path)
    if old & (old - 1) == 0:  # a whole subtree is its own beginning
        proof.insert(0, old_root)
    if not proof:
        return False
    place, last = old - 1, size - 1
    while place % 2 == 1:
        place, last = place // 2, last // 2
    first = second = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            return False
        if place % 2 == 1 or place == last:
            first, second = _node(sibling, first), _node(sibling, second)
            while place % 2 == 0 and place != 0:
                place, last = place // 2, last // 2
        else:
            second = _node(second, sibling)
        place, last = place // 2, last // 2
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """Return the largest power of two below `count` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1
