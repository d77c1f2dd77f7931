"""The public kernels of a run's items with numpy, see `fedrec.kernels.public`.

A kernel without a short exact feature map is factored by pivots that the run's seed draws. Both forms draw the same
numbers. Where one falls within rounding of the border between two items, the forms may take different pivots: the
factors then differ, and the kernel values by what their rank leaves out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.feature_maps import DenseRows, DeviceMap, SparseRows
from fedrec.ondevice.kernel_items import CATEGORIES, NUMBERS, KernelBlock, KernelItems

MAX_LABELS, TOLERANCE = 256, 1e-3  # as in `fedrec.kernels.public`
Column = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class _Kernel:
    """column: (p) to the column of item p, (items,) float32. known: (items,) bool."""

    column: Column
    known: np.ndarray

    def __mul__(self, other: "_Kernel") -> "_Kernel":
        return _Kernel(lambda p: self.column(p) * other.column(p), self.known & other.known)

    def rows(self, rank: int, seed: int) -> DenseRows:
        """Factor the kernel by randomly pivoted Cholesky; stops when `TOLERANCE` of its diagonal is left."""
        residual = self.known.astype(np.float32)
        items, enough = len(residual), TOLERANCE * float(residual.sum(dtype=np.float64))
        factor = np.zeros((min(rank, items), items), np.float32)
        key = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
        used = 0
        for uniform in draws.uniform(key, 0, len(factor))[0]:
            mass = np.cumsum(residual, dtype=np.float64)
            if mass[-1] <= enough:
                break
            pivot = min(int(np.searchsorted(mass, uniform * mass[-1], side="right")), items - 1)
            remainder = self.column(pivot) - factor[:used, pivot] @ factor[:used]
            scale = float(remainder[pivot])
            if scale <= 1e-6:
                residual[pivot] = 0.0
                continue
            factor[used] = remainder / np.float32(scale**0.5)
            residual = np.maximum(residual - factor[used] ** 2, 0)
            used += 1
        return DenseRows(np.ascontiguousarray(factor[:used].T))


def kernel_count(items: KernelItems) -> int:
    """Return how many kernels `public_kernels` makes."""
    kinds = [block.kind for block in items.blocks]
    one = {CATEGORIES: 2, NUMBERS: 2}
    return sum(one.get(kind, 1) for kind in kinds) + 2 * kinds.count(CATEGORIES) * kinds.count(NUMBERS)


def public_kernels(items: KernelItems, rank: int, seed: int) -> dict[str, DeviceMap]:
    """Return every public kernel by name, in the order of the run's features.

    Args:
        items: the features.
        rank: features kept of a kernel that has no short exact feature map.
        seed: the run's public one.
    """
    maps: dict[str, DeviceMap] = {}
    coarse: dict[str, tuple[str, _Kernel]] = {}
    fine: dict[str, tuple[str, _Kernel]] = {}
    for block in items.blocks:
        name = block.name
        if block.kind == CATEGORIES:
            rows, same = _categories_rows(block), _same_set(block)
            coarse[name], fine[name] = (CATEGORIES, _of_rows(rows)), (CATEGORIES, same)
            maps[name] = _categories_map(rows)
            maps[f"{name} set"] = same.rows(rank, seed)
        elif block.kind == NUMBERS:
            near, far = _number(block, 1 / 8), _number(block, 1 / 2)
            coarse[name], fine[name] = (NUMBERS, far), (NUMBERS, near)
            maps[f"{name} near"], maps[f"{name} far"] = near.rows(rank, seed), far.rows(rank, seed)
        else:
            maps[name] = SparseRows(block.arrays["columns"], block.arrays["values"], int(block.arrays["width"][0]))
    for level, kernels in (("", coarse), (" fine", fine)):
        names = list(kernels)
        for a, left in enumerate(names):
            for right in names[a + 1 :]:
                if kernels[left][0] != kernels[right][0]:
                    product = kernels[left][1] * kernels[right][1]
                    maps[f"{left} x {right}{level}"] = product.rows(2 * rank, seed)
    return maps


def number_scores(items: KernelItems) -> np.ndarray:
    """Return the numbers as standard scores, (items, blocks) float32; 0 where unknown."""
    columns = []
    for block in items.blocks:
        if block.kind == NUMBERS:
            known, values, spread = _spread(block)
            centred = np.where(known, values - values[known].mean(), 0.0) if known.any() else np.zeros(len(values))
            columns.append((centred / spread).astype(np.float32))
    return np.stack(columns, 1) if columns else np.zeros((items.items, 0), np.float32)


def _spread(block: KernelBlock) -> tuple[np.ndarray, np.ndarray, float]:
    """(which values are known, values, their standard deviation)."""
    values = block.arrays["values"]
    known = np.isfinite(values)
    return known, values, max(float(values[known].std(ddof=1)) if known.sum() > 1 else 1.0, 1e-9)


def _number(block: KernelBlock, fraction: float) -> _Kernel:
    known, values, spread = _spread(block)
    z = np.where(known, values, 0.0) / (fraction * spread)
    return _Kernel(lambda p: (np.exp(-((z - z[p]) ** 2) / 2) * known * known[p]).astype(np.float32), known)


def _categories_rows(block: KernelBlock) -> np.ndarray:
    member = block.arrays["member"].astype(np.float32)
    weight = member / np.sqrt(member.mean(0) + np.float32(1e-3))
    weight /= np.sqrt(np.maximum(member.sum(1, keepdims=True), 1))
    found: np.ndarray = weight / np.maximum(np.sqrt((weight**2).sum(1, keepdims=True)), np.float32(1e-9))
    return found


def _same_set(block: KernelBlock) -> _Kernel:
    member = block.arrays["member"].astype(np.float32)
    unit = member / np.maximum(np.sqrt(member.sum(1, keepdims=True)), np.float32(1e-9))
    return _Kernel(lambda p: (unit @ unit[p]) ** 4, np.any(block.arrays["member"], axis=1).astype(bool, copy=False))


def _of_rows(rows: np.ndarray) -> _Kernel:
    return _Kernel(lambda p: rows @ rows[p], np.any(rows, axis=1).astype(bool, copy=False))


def _categories_map(rows: np.ndarray) -> DeviceMap:
    """Dense for a few labels, sparse for many."""
    if rows.shape[1] <= MAX_LABELS:
        return DenseRows(rows)
    width = min(64, int((rows > 0).sum(1).max()))
    columns = np.argsort(-rows, axis=1, kind="stable")[:, :width]
    return SparseRows(columns, np.take_along_axis(rows, columns, 1), rows.shape[1])
