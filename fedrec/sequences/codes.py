"""Semantic ids of items: residual k-means codes of their public vectors, one code a level.

Level 1 groups the vectors, level 2 groups what the first centroids leave, and so on (residual quantisation; TIGER,
Rajput et al. 2023, with k-means in place of a learned code book). Like items share codes, so a table with a row for
each code has far fewer rows than the catalogue has items. Codes follow from public vectors alone and cost no budget.
"""

import torch
from torch import Tensor

from fedrec import draws

_STEPS = 12
_AT_ONCE = 1 << 14  # items


def residual_codes(vectors: Tensor, levels: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Quantise vectors.

    Args:
        vectors: (items, d) float32, public.
        levels: number of codes of an item.
        size: codes of a level, at most the items.
        seed: of the first centroids.

    Returns:
        (items, levels) int64 codes, each from 0 to size - 1; and (levels, size, d) centroids. An item is close to the
        sum of the centroids of its codes.
    """
    size, rest = min(size, len(vectors)), vectors.clone()
    codes, books = [], []
    for level in range(levels):
        book = _centroids(rest, size, seed + level)
        code = _nearest(rest, book)
        rest = rest - book[code]
        codes.append(code)
        books.append(book)
    return torch.stack(codes, 1), torch.stack(books)


def coded(vectors: Tensor, books: Tensor) -> Tensor:
    """Return the codes (items, levels) of vectors (items, d), by centroids (levels, size, d) that are given."""
    rest, codes = vectors, []
    for book in books:
        codes.append(_nearest(rest, book))
        rest = rest - book[codes[-1]]
    return torch.stack(codes, 1)


def quantised(codes: Tensor, books: Tensor) -> Tensor:
    """Return the sums of the centroids of codes (items, levels), (items, d)."""
    return torch.stack([book[code] for book, code in zip(books, codes.unbind(1), strict=True)]).sum(0)


def distinct(codes: Tensor) -> Tensor:
    """Add a last code where items share all others: 0, 1, ... in the order of the items.

    Args:
        codes: (items, levels) int64.

    Returns:
        (items, levels + 1) int64, no two rows alike.
    """
    _, group = torch.unique(codes, dim=0, return_inverse=True)
    order = group.argsort(stable=True)
    counts = torch.bincount(group)
    place = torch.arange(len(order), device=codes.device) - (counts.cumsum(0) - counts)[group[order]]
    return torch.cat([codes, torch.empty_like(group).scatter(0, order, place)[:, None]], 1)


def _centroids(points: Tensor, size: int, seed: int) -> Tensor:
    """Lloyd's algorithm from points drawn at random. A centroid without points stays."""
    drawn = draws.uniform(draws.keys(seed, torch.arange(len(points), device="cpu")), 3, 1)[:, 0]
    book = points[drawn.argsort()[:size]].clone()
    for _ in range(_STEPS):
        code = _nearest(points, book)
        sums = torch.zeros_like(book).index_add_(0, code, points)
        counts = torch.bincount(code, minlength=size)
        book = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), book)
    return book


def _nearest(points: Tensor, book: Tensor) -> Tensor:
    """The nearest centroid of each point, (points,) int64."""
    half = 0.5 * book.square().sum(1)
    return torch.cat([(part @ book.mT - half).argmax(1) for part in points.split(_AT_ONCE)])
