"""Kernels from public item data, by the TYPE of a block: categories, numbers, texts, vectors, products of pairs.

Nothing here looks at interactions or at the meaning of an id, so none of it costs budget. Kernels that have no short
exact feature map are factored by randomly pivoted Cholesky (Chen, Epperly, Tropp, Webber 2022): one column of the
kernel at a time, never the whole matrix.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.catalogue import Block, Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.kernels.feature_map import DenseMap, FeatureMap, SparseMap
from fedrec.progress import step

RANK = 128
CHUNK = 65536
TEXTS = 16384  # of items, between two signs of progress
MAX_LABELS = 256  # a block with more labels is held sparse
MAX_WORDS = 12  # an item's rarest words; the others carry little information
COMMON = 0.05  # a word in more than this part of the items is dropped
EVERY: slice = slice(None)
Fitted = slice | Tensor
"""The items whose statistics (frequencies, means, widths) a kernel uses: every item, or a mask or positions. New items
of a released model are placed by the statistics of the trained ones."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that is computed one column at a time.

    column: (p) to the column of item p, (items,). known: (items,) bool, where the diagonal is 1; an item of which
    nothing is known has 0 there.
    """

    column: Callable[[int], Tensor]
    known: Tensor

    def __mul__(self, other: "Kernel") -> "Kernel":
        return Kernel(lambda p: self.column(p) * other.column(p), self.known & other.known)


def cholesky_map(kernel: Kernel, rank: int, seed: int = 0, tolerance: float = 1e-3) -> DenseMap:
    """Factor a kernel from its columns; stops early when `tolerance` of its diagonal is left.

    Pivots are drawn in proportion to the residual diagonal, which favours what many items share; the draw is a public
    function of `seed`.
    """
    residual = kernel.known.float()
    items, enough = len(residual), tolerance * float(residual.sum())
    factor = torch.zeros(items, min(rank, items), device=residual.device)
    used = 0
    with step("columns of a public kernel", factor.shape[1]) as advance:
        for uniform in draws.uniform(torch.tensor([seed], device=residual.device), 0, factor.shape[1])[0]:
            advance()
            mass = residual.double().cumsum(0)
            if float(mass[-1]) <= enough:
                break
            pivot = int(torch.searchsorted(mass, uniform * mass[-1], right=True).clamp(max=items - 1))
            remainder = kernel.column(pivot) - factor[:, :used] @ factor[pivot, :used]
            scale = float(remainder[pivot])
            if scale <= 1e-6:
                residual[pivot] = 0.0
                continue
            factor[:, used] = remainder / scale**0.5
            residual = (residual - factor[:, used] ** 2).clamp(min=0)
            used += 1
    return DenseMap(factor[:, :used].contiguous())


def categories_rows(block: Categories, fitted: Fitted = EVERY) -> Tensor:
    """Rows weighted by inverse frequency, unit norm, (items, labels)."""
    member = torch.from_numpy(block.membership.astype(np.float32))
    weight = (member[fitted].mean(0) + 1e-3).rsqrt() * member / member.sum(1, keepdim=True).clamp(min=1).sqrt()
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-9)


def same_set_kernel(block: Categories) -> Kernel:
    """cos^4 between label sets: near 1 only for near-identical sets."""
    member = torch.from_numpy(block.membership.astype(np.float32))
    unit = member / member.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return Kernel(lambda p: (unit @ unit[p]) ** 4, member.any(1))


def number_kernel(block: Numbers, fraction: float, fitted: Fitted = EVERY) -> Kernel:
    """A Gaussian kernel whose width is `fraction` of the values' standard deviation; unknown values match nothing."""
    raw = torch.from_numpy(block.values.astype(np.float64))
    known = raw.isfinite()
    sample = raw[fitted][known[fitted]]
    spread = float(sample.std()) if len(sample) > 1 else 1.0
    z = torch.where(known, raw, 0.0) / (fraction * max(spread, 1e-9))
    return Kernel(lambda p: (torch.exp(-((z - z[p]) ** 2) / 2) * known * known[p]).float(), known)


def words_of(text: str) -> list[str]:
    """Lower-case words of three letters or more, without pure numbers."""
    return [w for w in re.findall(r"[^\W_]+", text.lower()) if len(w) > 2 and not w.isdigit()]


def text_map(block: Texts, limit: int = 4096, fitted: Fitted = EVERY) -> SparseMap | None:
    """TF-IDF over words that at least two items share; cosine over an item's whole text."""
    texts, counted = block.texts, np.zeros(len(block.texts), dtype=bool)
    counted[fitted] = True
    items = int(counted.sum())
    words: list[set[str]] = []
    frequency: Counter[str] = Counter()
    with step("words of the items", 2 * len(texts)) as advance:
        for start in range(0, len(texts), TEXTS):
            found = [set(words_of(text)) for text in texts[start : start + TEXTS]]
            frequency.update(
                word for row, counts in zip(found, counted[start:], strict=False) if counts for word in row
            )
            words += found
            advance(len(found))
        shared = [w for w, n in frequency.items() if 2 <= n <= max(2, COMMON * items)]
        shared = sorted(shared, key=lambda w: (-frequency[w], w))[:limit]
        if not shared:
            return None
        position = {word: column for column, word in enumerate(shared)}
        idf = {word: float(np.log(items / frequency[word])) for word in frequency}
        width = min(MAX_WORDS, max(len(words[item] & position.keys()) for item in np.flatnonzero(counted)))
        columns, values = np.zeros((len(texts), width), np.int64), np.zeros((len(texts), width), np.float32)
        for item, row in enumerate(words):
            idf |= {word: float(np.log(items)) for word in row if word not in idf}  # as a word of one item
            kept = sorted((w for w in row if w in position), key=lambda w: (-idf[w], w))[:width]
            norm = max(sum(idf[w] ** 2 for w in row if frequency[w] <= max(2, COMMON * items)) ** 0.5, 1e-9)
            for slot, word in enumerate(kept):
                columns[item, slot], values[item, slot] = position[word], idf[word] / norm
            if (item + 1) % TEXTS == 0:
                advance(TEXTS)
        advance(len(texts) % TEXTS)
    return SparseMap(torch.from_numpy(columns), torch.from_numpy(values), len(shared))


def categories_map(block: Categories, fitted: Fitted = EVERY) -> FeatureMap:
    """The categories kernel: dense for a few labels, sparse for many (tags)."""
    rows = categories_rows(block, fitted)
    if rows.shape[1] <= MAX_LABELS:
        return DenseMap(rows)
    width = min(64, int((rows[fitted] > 0).sum(1).max()))
    top = rows.topk(width, dim=1)
    return SparseMap(top.indices, top.values, rows.shape[1])


def vectors_map(block: Vectors, rank: int, fitted: Fitted = EVERY) -> DenseMap:
    """Centred, unit-norm rows, cut to their `rank` leading directions; an item without a vector matches nothing."""
    rows = torch.from_numpy(block.values.astype(np.float32))
    known = rows.any(1, keepdim=True)
    rows = (rows - rows[fitted].sum(0) / known[fitted].sum().clamp(min=1)) * known
    if rows.shape[1] > rank:
        _, basis = torch.linalg.eigh((rows[fitted].T @ rows[fitted]).double())
        rows = rows @ basis[:, -rank:].float()
    return DenseMap(rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9))


@dataclass(frozen=True)
class PublicKernels:
    """maps: every public kernel by name. base: the maps of single blocks (no products), which serve as regressors.
    smooth: the few of them that generalise best to items without data, each with its scale (tuned on the ML-1M
    validation split: with kernels for near-identical items alone, a regression memorises popular items)."""

    maps: dict[str, FeatureMap]
    base: tuple[str, ...]
    smooth: dict[str, float]

    def to(self, device: torch.device) -> "PublicKernels":
        """The same kernels on `device`."""
        return replace(self, maps={name: map_.to(device) for name, map_ in self.maps.items()})

    def rows(self, items: Tensor, *, smooth: bool = False) -> Tensor:
        """Regressors of `items` (n,) with a constant last, (n, features): every base map, or the smooth ones."""
        scales = self.smooth if smooth else dict.fromkeys(self.base, 1.0)
        rows = [scale * self.maps[name].rows(items) for name, scale in scales.items()]
        return torch.cat([*rows, torch.ones(len(items), 1, device=items.device)], 1)

    def chunks(self, items: int, device: torch.device, *, smooth: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """`rows` of items 0..items-1, part by part: (which, rows)."""
        for start in range(0, items, CHUNK):
            part = slice(start, min(start + CHUNK, items))
            yield part, self.rows(torch.arange(part.start, part.stop, device=device), smooth=smooth)


def public_kernels(catalogue: Catalogue, rank: int = RANK, seed: int = 0, *, products: bool = True) -> PublicKernels:
    """Every public kernel of a catalogue; none for a catalogue without metadata."""
    maps, smooth, base = {}, {}, []
    for part in named_kernels(catalogue, rank, products=products):
        maps[part.name] = part.map_ or cholesky_map(part.factored, part.rank, seed)
        if part.smooth:
            smooth[part.name] = part.smooth
        if part.single:
            base.append(part.name)
    return PublicKernels(maps, tuple(base), smooth)


@dataclass(frozen=True)
class NamedKernel:
    """A public kernel before it is factored.

    Attributes:
        name: as in `PublicKernels.maps`.
        kernel: its columns; None for one that is sparse.
        map_: its exact map where it has a short one; None where it must be factored.
        rank: most columns of the factor.
        smooth: its scale in `PublicKernels.smooth`; 0 where it is not among these.
        single: True for a kernel of one block, False for a product.
    """

    name: str
    kernel: Kernel | None
    map_: FeatureMap | None = None
    rank: int = RANK
    smooth: float = 0.0
    single: bool = True

    @property
    def factored(self) -> Kernel:
        """The kernel, which has no exact map."""
        assert self.kernel is not None
        return self.kernel


def named_kernels(
    catalogue: Catalogue, rank: int = RANK, *, products: bool = True, fitted: Fitted = EVERY
) -> Iterator[NamedKernel]:
    """Yield every public kernel of a catalogue, not factored yet.

    Args:
        catalogue: the items.
        rank: most columns of a factor of one block.
        products: True to include products of two blocks.
        fitted: the items whose statistics decide.
    """
    coarse: dict[str, tuple[type[Block], Kernel]] = {}
    fine: dict[str, tuple[type[Block], Kernel]] = {}
    for block in catalogue.blocks:
        name = block.name
        if isinstance(block, Categories):
            same, likeness = same_set_kernel(block), _gram_kernel(categories_rows(block, fitted))
            coarse[name], fine[name] = (Categories, likeness), (Categories, same)
            yield NamedKernel(name, likeness, categories_map(block, fitted), smooth=1.0)
            yield NamedKernel(f"{name} set", same, rank=rank)
        elif isinstance(block, Numbers):
            near, far = number_kernel(block, 1 / 8, fitted), number_kernel(block, 1 / 2, fitted)
            coarse[name], fine[name] = (Numbers, far), (Numbers, near)
            yield NamedKernel(f"{name} near", near, rank=rank)
            yield NamedKernel(f"{name} far", far, rank=rank, smooth=0.7)
        elif isinstance(block, Vectors):
            dense = vectors_map(block, rank, fitted)
            coarse[name] = fine[name] = (Vectors, _gram_kernel(dense.values))
            yield NamedKernel(name, coarse[name][1], dense, smooth=1.0)
        elif (text := text_map(block, fitted=fitted)) is not None:
            yield NamedKernel(name, None, text, smooth=0.5)
    for level, kernels in (("", coarse), (" fine", fine)) if products else ():
        names = list(kernels)
        for a, left in enumerate(names):
            for right in names[a + 1 :]:
                if kernels[left][0] is not kernels[right][0]:  # products of unlike blocks, e.g. taste x time
                    product = kernels[left][1] * kernels[right][1]
                    yield NamedKernel(f"{left} x {right}{level}", product, rank=2 * rank, single=False)


def _gram_kernel(rows: Tensor) -> Kernel:
    return Kernel(lambda p: rows @ rows[p], rows.any(1))


def number_scores(catalogue: Catalogue, fitted: Fitted = EVERY) -> Tensor:
    """The number blocks as standard scores, (items, blocks); 0 where unknown."""
    columns = []
    for block in catalogue.blocks:
        if isinstance(block, Numbers):
            values = torch.from_numpy(block.values.astype(np.float64))
            known = values.isfinite()
            sample = values[fitted][known[fitted]]
            centred = torch.where(known, values - sample.mean(), 0.0) if len(sample) else values.zero_()
            spread = float(centred[fitted][known[fitted]].std()) if len(sample) > 1 else 1.0
            columns.append((centred / max(spread, 1e-9)).float())
    return torch.stack(columns, 1) if columns else torch.zeros(len(catalogue), 0, device="cpu")
