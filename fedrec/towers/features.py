"""Public features of items, a few dense columns: the leading directions of all public kernels together.

The sum of the kernels of `fedrec.kernels.public` has one long feature row an item. Block power iteration (Halko,
Martinsson, Tropp 2011) finds its leading directions from parts of rows. So memory holds neither the rows of all items
nor an items x items table. The features use public data only, are computed once, and cost no budget.
"""

from functools import lru_cache

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.kernels.public import PublicKernels, public_kernels

STEPS = 4
SPARE = 8  # extra directions, because the last ones converge slowly
PART = 4096


def public_features(catalogue: Catalogue, width: int) -> Tensor:
    """Compute features (items, at most `width`), columns by falling share of the kernels, mean squared row norm 1.

    Args:
        catalogue: the items.
        width: most columns.

    Raises:
        InputError: for a catalogue without features.
    """
    return _features(ById(catalogue), width)


class ById:
    """A catalogue as a cache key: itself, not its contents."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __hash__(self) -> int:
        return id(self.catalogue)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and other.catalogue is self.catalogue


@lru_cache(maxsize=2)
def _features(key: ById, width: int) -> Tensor:
    kernels, items = public_kernels(key.catalogue), len(key.catalogue)
    if not kernels.maps:
        raise InputError("this tower needs public item data, and the catalogue has no feature block; use tower 'id'")
    basis = draws.normal(draws.keys(0, torch.arange(items, device="cpu")), 0, min(width + SPARE, items)).double()
    for _ in range(STEPS):
        basis = torch.linalg.qr(_times_kernel(kernels, basis))[0]
    image = _times_kernel(kernels, basis)
    values, rotation = torch.linalg.eigh(basis.mT @ image)
    leading = values.argsort(descending=True)[:width]
    leading = leading[values[leading] > 1e-6 * values.max()]
    features = basis @ (rotation[:, leading] * values[leading].sqrt())
    return (features / features.square().sum(1).mean().sqrt()).float()


def _rows(kernels: PublicKernels, items: int, start: int) -> Tensor:
    index = torch.arange(start, min(start + PART, items), device="cpu")
    return torch.cat([map_.rows(index) for map_ in kernels.maps.values()], 1).double()


def _times_kernel(kernels: PublicKernels, right: Tensor) -> Tensor:
    """Multiply the sum of all kernels by `right` (items, k)."""
    starts = range(0, len(right), PART)
    inner = torch.stack([_rows(kernels, len(right), s).mT @ right[s : s + PART] for s in starts]).sum(0)
    return torch.cat([_rows(kernels, len(right), s) @ inner for s in starts])
