"""Item-item kernels in factored form: K(i, j) = <left(j), right(i)>, so that nobody holds an items x items table.

A user's weighted history meets the catalogue in two steps: sum the feature rows of the history into one profile,
then take inner products with candidates. A list over a million items is a few matrix-vector products.
"""

import warnings
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from fedrec.precision import full_precision
from fedrec.rowwise import SIDE

PAIRED = 1 << 22  # numbers of profiles at once, where pairs of items are compared
DENSE_ITEMS = 4096
"""Largest catalogue whose tables of neighbours are opened to items x items, which is faster."""
MOST_NUMBERS = 1 << 22  # in memory while neighbours are read


class FeatureMap(ABC):
    """One kernel, factored: `width` features an item."""

    items: int
    width: int

    @abstractmethod
    def rows(self, items: Tensor) -> Tensor:
        """The feature rows of `items` (n,), dense, (n, width)."""

    @abstractmethod
    def profile(self, owners: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        """sum over events e of user u of weights[e] * left(items[e]); events sorted by owner. (users, width)."""

    @abstractmethod
    def against(self, profile: Tensor, candidates: Tensor | None = None) -> Tensor:
        """Kernel values of profiles (B, R, width) with candidates (B, C), or with every item: (B, R, C)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What `restore_map` needs."""

    def between(self, older: Tensor, newer: Tensor, mean: Tensor) -> Tensor:
        """<left(older) - mean, right(newer)> of pairs of items (n,) each, (n,); mean (width,)."""
        if not len(older):
            return mean.new_zeros(0)
        step = max(1, PAIRED // self.width)
        pairs = zip(older.split(step), newer.split(step), strict=True)
        return torch.cat([self._between(a, b, mean) for a, b in pairs])

    def _between(self, older: Tensor, newer: Tensor, mean: Tensor) -> Tensor:
        place = torch.arange(len(older), device=older.device)
        profile = self.profile(place, older, torch.ones_like(mean[:1]).expand(len(older)), len(older)) - mean
        return self.against(profile[:, None], newer[:, None])[:, 0, 0]

    def to(self, device: torch.device | str) -> "FeatureMap":
        """The same map with its tensors on `device`."""
        return restore_map({name: tensor.to(device) for name, tensor in self.tensors().items()})


class DenseMap(FeatureMap):
    """Dense rows: values (items, width). `signs` (width,) of +1 and -1 allow indefinite kernels."""

    def __init__(self, values: Tensor, signs: Tensor | None = None) -> None:
        self.values, self.signs = values, signs
        self.items, self.width = values.shape

    def rows(self, items: Tensor) -> Tensor:
        return self.values[items]

    def profile(self, owners: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        starts = torch.zeros(users + 1, dtype=torch.int64, device=items.device)
        starts[1:] = torch.bincount(owners, minlength=users).cumsum(0)
        if items.device.type == "cpu":
            profile = self._by_matrix(starts, items, weights, users)
        else:
            profile = self._by_bags(starts, items, weights)
        return profile if self.signs is None else profile * self.signs

    def _by_matrix(self, starts: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        """As a sparse matrix times `values`: fastest on a CPU, but cuSPARSE does not promise the same bits twice."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            history = torch.sparse_csr_tensor(
                starts, items, weights, (users, self.items), device=items.device, check_invariants=False
            )
        with full_precision(items.device):  # there is no sparse product in half precision
            profile: Tensor = history @ self.values
        return profile

    def _by_bags(self, starts: Tensor, items: Tensor, weights: Tensor) -> Tensor:
        return embedding_bag(items, self.values, starts[:-1], mode="sum", per_sample_weights=weights)

    def against(self, profile: Tensor, candidates: Tensor | None = None) -> Tensor:
        if candidates is None:
            return profile @ self.values.T
        rows = self.values[pad(candidates, (0, -candidates.shape[1] % SIDE))]  # so that `rowwise` need not copy them
        return torch.bmm(rows, profile.transpose(1, 2))[:, : candidates.shape[1]].transpose(1, 2)

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.values} | ({} if self.signs is None else {"signs": self.signs})

    def _between(self, older: Tensor, newer: Tensor, mean: Tensor) -> Tensor:
        left = self.values[older] if self.signs is None else self.values[older] * self.signs
        return ((left - mean) * self.values[newer]).sum(1)


class HeadMap(FeatureMap):
    """A dense map over some items only; the rest match nothing. head (n,) item positions, values (n, width)."""

    def __init__(self, head: Tensor, items: int, values: Tensor, signs: Tensor) -> None:
        self.head, self.items, self.width = head, items, values.shape[1]
        self.inner = DenseMap(values, signs)
        self.place = torch.full((items,), -1, device=head.device)
        self.place[head] = torch.arange(len(head), device=head.device)

    def rows(self, items: Tensor) -> Tensor:
        place = self.place[items]
        return torch.where((place >= 0)[:, None], self.inner.rows(place.clamp(min=0)), 0.0)

    def profile(self, owners: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        place = self.place[items]
        known = place >= 0
        return self.inner.profile(owners[known], place[known], weights[known], users)

    def against(self, profile: Tensor, candidates: Tensor | None = None) -> Tensor:
        if candidates is None:
            scores = profile.new_zeros(*profile.shape[:2], self.items)
            scores[..., self.head] = self.inner.against(profile)
            return scores
        place = self.place[candidates]
        return self.inner.against(profile, place.clamp(min=0)) * (place >= 0)[:, None]

    def _between(self, older: Tensor, newer: Tensor, mean: Tensor) -> Tensor:
        left = self.rows(older) if self.inner.signs is None else self.rows(older) * self.inner.signs
        return ((left - mean) * self.rows(newer)).sum(1)

    def tensors(self) -> dict[str, Tensor]:
        return {"head": self.head, "items": torch.tensor([self.items], device=self.head.device)} | self.inner.tensors()


class SparseMap(FeatureMap):
    """Sparse rows (words of a text): columns (items, m) int64 and values (items, m), padded with value 0."""

    def __init__(self, columns: Tensor, values: Tensor, width: int) -> None:
        self.columns, self.values, self.width = columns, values, width
        self.items = len(columns)

    def rows(self, items: Tensor) -> Tensor:
        dense = self.values.new_zeros(len(items), self.width)
        return dense.scatter_add_(1, self.columns[items], self.values[items])

    def profile(self, owners: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        profile = self.values.new_zeros(users * self.width)
        position = owners[:, None] * self.width + self.columns[items]  # (E, m)
        values = weights[:, None] * self.values[items]
        used = values != 0
        return profile.index_add_(0, position[used], values[used]).view(users, self.width)

    def against(self, profile: Tensor, candidates: Tensor | None = None) -> Tensor:
        users, decays, width = profile.shape
        if candidates is None:
            matrix = self.matrix() @ profile.reshape(users * decays, width).T  # (items, B * R)
            return matrix.T.view(users, decays, self.items)
        columns, values = self.columns[candidates], self.values[candidates]  # (B, C, m)
        flat = columns.view(users, 1, -1).expand(-1, decays, -1)
        return (profile.gather(2, flat).view(users, decays, *columns.shape[1:]) * values[:, None]).sum(3)

    def _between(self, older: Tensor, newer: Tensor, mean: Tensor) -> Tensor:
        columns, values = self.columns[newer], self.values[newer]  # (n, m)
        same = self.columns[older][:, :, None] == columns[:, None]  # (n, m, m)
        left = (same * self.values[older][:, :, None]).sum(1) - mean[columns]
        return (left * values).sum(1)

    def matrix(self) -> Tensor:
        """The map as a sparse CSR matrix, (items, width)."""
        rows = torch.arange(self.items, device=self.values.device)[:, None].expand_as(self.columns)
        used = self.values != 0
        index = torch.stack([rows[used], self.columns[used]])
        shape = (self.items, self.width)
        values = self.values[used]
        return torch.sparse_coo_tensor(
            index, values, shape, device=values.device, check_invariants=False
        ).to_sparse_csr()

    def tensors(self) -> dict[str, Tensor]:
        return {
            "columns": self.columns.int(),
            "values": self.values,
            "width": torch.tensor([self.width], device=self.values.device),
        }


class NeighbourMap(FeatureMap):
    """A kernel as a table: for each item of a history, what it says of other items. Not symmetric.

    It holds what co-occurrence without noise allows: no low rank, so that pairs of rare items keep their meaning.

    Args:
        starts: (items + 1,) int64; row i has entries starts[i] to starts[i + 1] - 1.
        columns: (entries,) int64, ascending within a row.
        values: (entries,) float32.
    """

    def __init__(self, starts: Tensor, columns: Tensor, values: Tensor) -> None:
        self.starts, self.columns, self.values = starts, columns, values
        self.items = self.width = len(starts) - 1
        self._opened: DenseMap | None = None

    @property
    def _table(self) -> "DenseMap | None":
        """The table with all its zeros; None where that is too large."""
        if self.items > DENSE_ITEMS:
            return None
        if self._opened is None:
            self._opened = DenseMap(self.rows(torch.arange(self.items, device=self.values.device)))
        return self._opened

    def _entries(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The place in `items` of each entry of their rows, and the entry."""
        counts = self.starts[items + 1] - self.starts[items]
        which = torch.repeat_interleave(torch.arange(len(items), device=items.device), counts)
        first = self.starts[items] - (counts.cumsum(0) - counts)
        return which, first[which] + torch.arange(len(which), device=items.device)

    def rows(self, items: Tensor) -> Tensor:
        which, entries = self._entries(items)
        dense = self.values.new_zeros(len(items), self.width)
        dense[which, self.columns[entries]] = self.values[entries]
        return dense

    def profile(self, owners: Tensor, items: Tensor, weights: Tensor, users: int) -> Tensor:
        if self._table is not None:
            return self._table.profile(owners, items, weights.to(self.values.dtype), users)
        profile = torch.zeros(users * self.width, dtype=weights.dtype, device=weights.device)
        most = max(1, MOST_NUMBERS // max(1, len(self.values) // max(1, self.items)))
        for some in torch.arange(len(items), device=items.device).split(most):
            which, entries = self._entries(items[some])
            values = weights[some][which] * self.values[entries].to(weights.dtype)
            profile.index_add_(0, owners[some][which] * self.width + self.columns[entries], values)
        return profile.view(users, self.width)

    def against(self, profile: Tensor, candidates: Tensor | None = None) -> Tensor:
        if candidates is None:
            return profile
        return profile.gather(2, candidates[:, None].expand(-1, profile.shape[1], -1))

    def met(self, owners: Tensor, items: Tensor, weights: Tensor, candidates: Tensor) -> Tensor:
        """Kernel values of weighted histories with a few candidates, without a profile: (B, R, C).

        Args:
            owners: (E,) user of each event, ascending.
            items: (E,) its item.
            weights: (E, R) its weight under each decay.
            candidates: (B, C).
        """
        users, decays = len(candidates), weights.shape[1]
        found = weights.new_zeros(users, decays, candidates.shape[1])
        for some in torch.arange(len(items), device=items.device).split(
            max(1, MOST_NUMBERS // max(1, candidates.shape[1]))
        ):
            values = self._at(items[some], candidates[owners[some]])  # (e, C)
            for r in range(decays):
                part = weights[some, r] != 0
                found[:, r].index_add_(0, owners[some][part], weights[some, r][part, None] * values[part])
        return found

    def _at(self, items: Tensor, candidates: Tensor) -> Tensor:
        """The entries of the rows of `items` (e,) in the columns `candidates` (e, C), (e, C); 0 where there is none."""
        if self._table is not None:
            return self._table.values[items[:, None], candidates]
        if not len(self.values):
            return self.values.new_zeros(candidates.shape)
        order = items.argsort()  # neighbours in memory are searched one after the other
        wanted = (items[:, None] * self.items + candidates)[order]
        place = torch.searchsorted(self._keys, wanted).clamp_(max=len(self._keys) - 1)
        values = torch.where(self._keys[place] == wanted, self.values[place], 0.0)
        return torch.empty_like(values).index_copy_(0, order, values)

    @cached_property
    def _keys(self) -> Tensor:
        """Row and column of each entry as one number, (entries,), ascending."""
        rows = torch.repeat_interleave(torch.arange(self.items, device=self.columns.device), self.starts.diff())
        return rows * self.items + self.columns

    def tensors(self) -> dict[str, Tensor]:
        return {"starts": self.starts, "neighbours": self.columns.int(), "values": self.values}


def restore_map(tensors: dict[str, Tensor]) -> FeatureMap:
    """The map whose `tensors()` these are."""
    if "neighbours" in tensors:
        return NeighbourMap(tensors["starts"], tensors["neighbours"].long(), tensors["values"])
    if "columns" in tensors:
        return SparseMap(tensors["columns"].long(), tensors["values"], int(tensors["width"]))
    if "head" in tensors:
        return HeadMap(tensors["head"], int(tensors["items"]), tensors["values"], tensors["signs"])
    return DenseMap(tensors["values"], tensors.get("signs"))
