"""New items in a released model: rows of kernels and vectors for items that training never had.

Everything here is computed from the released model and public features, so it costs no budget.

* A public kernel K that was factored as F F' places a new item at the row r with F r nearest to its kernel values
  K(trained, new): the Nystroem extension (Williams and Seeger 2001). For an exact factor it is the row that training
  would have computed by the statistics of the trained items.
* Vectors that were learned (of `als`, `spectral`, towers, the co-occurrence of `kernel-rank`) are predicted from the
  public features by kernel ridge regression, as the attribute-to-factor maps of Gantner et al. 2010. Different: the
  regularisation is chosen on trained items that are held out, once, for all columns.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.new_items import NewItems
from fedrec.errors import InputError
from fedrec.kernels.feature_map import DenseMap, FeatureMap, HeadMap, NeighbourMap, SparseMap
from fedrec.kernels.public import Kernel, PublicKernels, named_kernels, public_kernels

RIDGES = (1e-3, 1e-2, 0.1, 0.5, 2.0, 8.0)
"""Ridges that are tried, times the mean of the diagonal."""
LANDMARKS = 6000
"""Trained items at most that a prediction rests on, drawn from a public seed."""
TRIED = 1500
"""Trained items at most that the choice of the ridge rests on; a quarter of them is held out."""


def wider_maps(maps: Mapping[str, FeatureMap], items: NewItems) -> dict[str, FeatureMap]:
    """Extend the maps of public kernels of a released model to the new items.

    Args:
        maps: released maps by name. Those that the catalogue does not explain are left out of the result.
        items: the trained items and the new ones.

    Raises:
        InputError: when the catalogue's words are not those of the model.
    """
    fitted = torch.from_numpy(items.trained)
    found: dict[str, FeatureMap] = {}
    for part in named_kernels(items.catalogue, fitted=fitted):
        released = maps.get(part.name)
        if isinstance(released, SparseMap) and isinstance(part.map_, SparseMap):
            found[part.name] = _wider_sparse(part.name, released, part.map_, fitted)
        elif isinstance(released, DenseMap) and part.kernel is not None:
            found[part.name] = DenseMap(_wider_rows(released.values, part.kernel, items), released.signs)
    return found


def _wider_sparse(name: str, released: SparseMap, whole: SparseMap, fitted: Tensor) -> SparseMap:
    columns = whole.columns[fitted]
    same = released.columns.shape == columns.shape and released.width == whole.width
    if not same or not bool((released.columns.cpu() == columns).all()):
        raise InputError(f"new items: '{name}' of the model's items differs from training; give their public features")
    device = released.values.device
    return SparseMap(whole.columns.to(device), whole.values.to(device), whole.width)


def _wider_rows(rows: Tensor, kernel: Kernel, items: NewItems) -> Tensor:
    """Rows (items, width) of a factored kernel: those of trained items as they are, those of new items by Nystroem."""
    factor = rows.double().cpu()
    gram = factor.mT @ factor
    gram.diagonal().add_(1e-6 * gram.diagonal().mean().clamp(min=1e-12))
    trained, new = torch.from_numpy(items.trained), torch.from_numpy(items.new).nonzero()[:, 0]
    if not len(new) or not factor.shape[1]:
        return items.widened(rows, 0.0)
    inner = torch.stack([factor.mT @ kernel.column(int(item))[trained].double() for item in new], 1)
    added = torch.linalg.solve(gram, inner).mT
    return items.widened(rows, added)


def wider_head(map_: HeadMap, items: NewItems) -> HeadMap:
    """Extend a map over head items: no new item is one of them."""
    head = torch.from_numpy(items.trained).to(map_.head.device)[map_.head]
    assert map_.inner.signs is not None
    return HeadMap(head, len(items.catalogue), map_.inner.values, map_.inner.signs)


def wider_neighbours(map_: NeighbourMap, items: NewItems) -> NeighbourMap:
    """Extend a table of neighbours: a new item has none."""
    trained = torch.from_numpy(items.trained).to(map_.starts.device)
    counts = map_.starts.new_zeros(len(items.catalogue)).index_copy_(0, trained, map_.starts.diff())
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return NeighbourMap(starts, trained[map_.columns], map_.values)


class Predictor:
    """Predicts learned rows of new items from public features, by kernel ridge regression on the trained items.

    Args:
        items: the trained items and the new ones.

    Raises:
        InputError: for a catalogue without features.
    """

    def __init__(self, items: NewItems) -> None:
        if not items.catalogue.blocks:
            raise InputError("new items: the catalogue has no public features, by which a new item could be placed")
        self.items = items
        self.kernels = public_kernels(items.catalogue)
        if not self.kernels.maps:
            raise InputError("new items: the catalogue's features are all alike; nothing tells new items apart")
        order = draws.uniform(torch.tensor([0]), 0, len(items.trained))[0].argsort()
        self.landmarks = torch.from_numpy(items.trained)[order]
        self._places = order

    def widened(self, rows: Tensor) -> Tensor:
        """Rows (n, d) of the trained items in the larger catalogue, (items, d); those of new items are predicted."""
        known = rows.double().cpu()[self._places]
        tried = min(TRIED, len(known))
        part = max(1, tried // 4)
        first, held = slice(part, tried), slice(part)
        best, choice = float("inf"), (False, RIDGES[-1])
        for smooth in (True, False) if tried >= 8 else ():
            gram = self._between(self.landmarks[:tried], self.landmarks[:tried], smooth=smooth)
            for ridge in RIDGES:
                guess = _ridge(gram[first, first], known[first], gram[held, first], ridge)
                error = float((guess - known[held]).square().sum())
                if error < best:
                    best, choice = error, (smooth, ridge)
        smooth, ridge = choice
        used = slice(min(LANDMARKS, len(known)))
        landmarks, new = self.landmarks[used], torch.from_numpy(self.items.new).nonzero()[:, 0]
        gram = self._between(landmarks, landmarks, smooth=smooth)
        return self.items.widened(rows, _ridge(gram, known[used], self._between(new, landmarks, smooth=smooth), ridge))

    def _between(self, left: Tensor, right: Tensor, *, smooth: bool) -> Tensor:
        """The sum of the kernels of two sets of items, (left, right) float64."""
        found = torch.zeros(len(left), len(right), dtype=torch.float64, device="cpu")
        for first, second in _rows(self.kernels, left, right, smooth=smooth):
            found += (first @ second.mT).double()
        return found


def _rows(kernels: PublicKernels, left: Tensor, right: Tensor, *, smooth: bool) -> Iterator[tuple[Tensor, Tensor]]:
    scales = kernels.smooth if smooth else dict.fromkeys(kernels.maps, 1.0)
    for name, scale in scales.items():
        yield scale * kernels.maps[name].rows(left), scale * kernels.maps[name].rows(right)


def _ridge(gram: Tensor, known: Tensor, across: Tensor, ridge: float) -> Tensor:
    """Values (m, d) predicted from `known` (n, d), with gram (n, n) and across (m, n); the mean is not penalised."""
    mean = known.mean(0)
    penalised = gram + ridge * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    factor, _ = torch.linalg.cholesky_ex(penalised)
    found: Tensor = mean + across @ torch.cholesky_solve(known - mean, factor)
    return found
