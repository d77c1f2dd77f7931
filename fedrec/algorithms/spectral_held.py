"""Eigenvectors of `spectral` under noise: the popular direction, and the rest as far as it exceeds the noise.

If users had no taste, their histories would share one direction, which follows from the released popularity. The filter
makes large eigenvalues alike, so the release itself cannot be mixed with that direction: what is left over would be an
eigenvector of its own. Instead the rows of groups of items without evidence (`fedrec.algorithms.held_rows`) keep only
their part along the popular direction. The other rows stay, since eigenvalues are shrunk for the noise already. Where
no group has evidence, scores follow popularity.
"""

import torch
from torch import Tensor

from fedrec.algorithms.held_rows import kept
from fedrec.privacy.queries import PrivateSum

HEAD = 256  # items, the most popular ones, with which an item's co-occurrence is evidence


def popular_direction(popularity: Tensor, weight: Tensor) -> Tensor:
    """Return the unit direction (items,) of weighted histories of users without a taste."""
    direction = popularity * weight
    return direction / direction.norm()


def kept_of_gram(gram: Tensor, noise_std: float, direction: Tensor, popularity: Tensor) -> Tensor:
    """Return 1 for each row of the eigenvectors with evidence and 0 for the others, (items,).

    Args:
        gram: (items, items), symmetric; entries off the diagonal have the noise `noise_std` / sqrt(2).
        noise_std: of an entry on the diagonal.
        direction: (items,) from `popular_direction`.
        popularity: (items,), released.
    """
    head = popularity.argsort(descending=True, stable=True)[:HEAD]
    value = float(direction @ (gram @ direction))
    rest = gram[:, head] - value * torch.outer(direction, direction[head])
    return kept(PrivateSum(rest, noise_std / 2**0.5), popularity).ceil()


def kept_of_product(product: Tensor, noise_std: float, basis: Tensor, direction: Tensor, popularity: Tensor) -> Tensor:
    """As `kept_of_gram`, of the Gram matrix times `basis` (items, rank), with noise on each entry."""
    along = basis.T @ direction
    value = float((direction @ product) @ along / along.square().sum().clamp(min=1e-12))
    return kept(PrivateSum(product - value * torch.outer(direction, along), noise_std), popularity).ceil()


def held_vectors(vectors: Tensor, part: Tensor, direction: Tensor) -> Tensor:
    """Return eigenvectors (items, rank) whose rows keep `part` (items,) of what is off the popular direction."""
    along = torch.outer(direction, direction @ vectors)
    return along + part[:, None] * (vectors - along)
