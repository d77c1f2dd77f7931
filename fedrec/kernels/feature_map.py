"""Item-item kernels in factored form: K(i, j) = <left(j), right(i)>, so that nobody holds an items x items table.

A user's weighted history meets the catalogue in two steps: sum the feature rows of the history into one profile,
then take inner products with candidates. A list over a million items is a few matrix-vector products.
"""

import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedrec.precision import full_precision


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
        return torch.bmm(profile, self.values[candidates].transpose(1, 2))

    def tensors(self) -> dict[str, Tensor]:
        return {"values": self.values} | ({} if self.signs is None else {"signs": self.signs})


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


def restore_map(tensors: dict[str, Tensor]) -> FeatureMap:
    """The map whose `tensors()` these are."""
    if "columns" in tensors:
        return SparseMap(tensors["columns"].long(), tensors["values"], int(tensors["width"]))
    if "head" in tensors:
        return HeadMap(tensors["head"], int(tensors["items"]), tensors["values"], tensors["signs"])
    return DenseMap(tensors["values"], tensors.get("signs"))
