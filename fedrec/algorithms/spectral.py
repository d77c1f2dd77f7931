"""`spectral`: the leading eigenvectors of the items' co-occurrence under privacy, and a filter on their eigenvalues.

A user's history x (a unit vector over items, popular items weighted down) adds x x^T, of Frobenius norm 1, to the Gram
matrix of all users. Small catalogues (`gram`): the whole matrix is released once. Large ones (`subspace`): a few
rounds of subspace iteration, each a sum of x (x^T V) of shape items x rank. On the device a list is x V f V^T, with
f = value / (value + ridge).

Sources: Cremonesi et al. 2010 (PureSVD); Shen et al. 2021 (GF-CF: graph filters with weighted-down popular items);
Dwork et al. 2014 (noise on a Gram matrix); Hardt and Price 2014 (noisy subspace iteration). Here, the unit of privacy
is the user and eigenvalues are shrunk for the noise that they carry (`fedrec.kernels.shrinkage`). The part inside the
public content's subspace is shrunk on its own: few dimensions carry little noise, and it costs no budget to know them.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedrec.algorithms.base import Algorithm, Setting, Shared
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import public_kernels
from fedrec.kernels.shrinkage import content_basis, extended_basis, shrunk_gram
from fedrec.model import ReleasedModel, or_popular
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

GRAM_ITEMS = 5000
"""Catalogues up to here are released as one Gram matrix by default: a message of at most 50 MB."""


class WeightedHistories:
    """Unit-norm histories of B users: the event of user `owners[n]` with item `items[n]` weighs `values[n]`."""

    def __init__(self, users: UserBatch, weight: Tensor) -> None:
        self.owners, self.items = users.distinct
        raw = weight[self.items]
        squares = torch.zeros(len(users), device=raw.device).index_add_(0, self.owners, raw**2)
        self.values = raw * squares.rsqrt()[self.owners]
        self.users, self.n_items = len(users), users.n_items

    def squares(self) -> Tensor:
        """Squared norms (B,) float64: 1, or 0 for an empty history."""
        zero = torch.zeros(self.users, dtype=torch.float64, device=self.values.device)
        return zero.index_add_(0, self.owners, self.values.double() ** 2)

    def rows(self, some: Tensor) -> Tensor:
        """The users at positions `some` (n,) as dense rows (n, items)."""
        place = torch.full((self.users,), -1, device=some.device)
        place[some] = torch.arange(len(some), device=some.device)
        mine = place[self.owners] >= 0
        rows = self.values.new_zeros(len(some), self.n_items)
        rows[place[self.owners[mine]], self.items[mine]] = self.values[mine]
        return rows


def pack(matrix: Tensor) -> Tensor:
    """The upper triangle (n (n + 1) / 2,) of a symmetric matrix, off the diagonal times sqrt(2): norms stay equal."""
    scaled = matrix * math.sqrt(2)
    scaled.diagonal().copy_(matrix.diagonal())
    return scaled[torch.ones_like(matrix, dtype=torch.bool).triu_()]


def unpack(packed: Tensor, items: int) -> Tensor:
    """The inverse of `pack`."""
    matrix = packed.new_zeros(items, items)
    matrix[torch.ones_like(matrix, dtype=torch.bool).triu_()] = packed / math.sqrt(2)
    matrix = matrix + matrix.T
    matrix.diagonal().mul_(math.sqrt(0.5))
    return matrix


class HistoryGram(Contribution):
    """x x^T of each user, packed. At most `AT_ONCE` users are dense rows at a time, and no user is a matrix."""

    AT_ONCE = 1024

    def __init__(self, histories: WeightedHistories) -> None:
        self.histories = histories
        self.packed = histories.n_items

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.packed * (self.packed + 1) // 2,)

    def norms(self) -> Tensor:
        return self.histories.squares()

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        items = self.packed
        for some in weights.nonzero()[:, 0].split(self.AT_ONCE):
            rows = lattice.halves(self.histories.rows(some).double() * weights[some, None].double().sqrt())
            done = 0
            for first in range(0, items, self.AT_ONCE):  # of the upper triangle, some rows at a time
                block = rows[:, first : first + self.AT_ONCE].T @ rows[:, first:]
                part = block[torch.ones_like(block, dtype=torch.bool).triu_()]
                add_whole(total[done : done + len(part)], part)
                done += len(part)

    def dense(self, row: int) -> Tensor:
        vector = self.histories.rows(torch.tensor([row], device=self.histories.values.device))[0]
        return pack(torch.outer(vector, vector))


class HistoryProjection(Contribution):
    """x (x^T V) of each user, (items, rank), held as x and x^T V; basis V (items, rank) with orthonormal columns."""

    def __init__(self, histories: WeightedHistories, basis: Tensor) -> None:
        self.histories = histories
        starts = torch.bincount(histories.owners, minlength=histories.users).cumsum(0)
        starts = torch.cat([starts.new_zeros(1), starts[:-1]])
        self.coordinates = embedding_bag(
            histories.items, basis, starts, mode="sum", per_sample_weights=histories.values
        )

    def norms(self) -> Tensor:
        return self.histories.squares().sqrt() * self.coordinates.double().norm(dim=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.histories.n_items, self.coordinates.shape[1])

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        one = self.histories
        used = weights[one.owners] != 0
        owners, items = one.owners[used], one.items[used]
        weighted = torch.where(weights[:, None] != 0, weights[:, None].double() * self.coordinates.double(), 0.0)
        # No entry of a history is longer than the whole, and no coordinate either.
        left, right = lattice.factor_steps(one.squares().sqrt(), weighted.abs().amax(1))
        value = (one.values[used].double() / left[owners]).trunc_()
        coordinates = (weighted / right[:, None]).trunc_()
        part = torch.zeros(total.shape, dtype=torch.float64, device=total.device)
        add_whole(total, part.index_add_(0, items, value[:, None] * coordinates[owners]))

    def dense(self, row: int) -> Tensor:
        vector = self.histories.rows(torch.tensor([row], device=self.coordinates.device))[0]
        return torch.outer(vector, self.coordinates[row])


class SpectralModel(ReleasedModel):
    """encode, decode (items, rank): a profile is the sum of the history's rows of one, a score its product with the
    other. An event counts as often as it occurs. A user whose profile is zero gets the popularity (items,)."""

    kind: ClassVar[str] = "spectral"

    def __init__(self, encode: Tensor, decode: Tensor, popularity: Tensor) -> None:
        self.encode, self.decode, self.popularity = encode, decode, popularity

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        if not len(users.items):
            return {"profile": self.encode.new_zeros(len(users), self.encode.shape[1])}
        return {"profile": embedding_bag(users.items, self.encode, users.offsets[:-1], mode="sum")}

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        profile = state["profile"]
        if candidates is None:
            scores = profile @ self.decode.T
        else:
            scores = torch.bmm(self.decode[candidates], profile[:, :, None])[:, :, 0]
        return or_popular(scores, ~profile.any(1), self.popularity, candidates)

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        return {"profile": state["profile"] + self.encode[items]}

    def item_rows(self, items: Tensor) -> Tensor:
        return self.decode[items]

    def tensors(self) -> dict[str, Tensor]:
        return {"encode": self.encode, "decode": self.decode, "popularity": self.popularity}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, object]) -> "SpectralModel":
        return cls(tensors["encode"], tensors["decode"], tensors["popularity"])


class SpectralConfig(Settings):
    """Settings of `spectral`. Defaults were chosen on the validation split of MovieLens-1M."""

    method: Literal["auto", "gram", "subspace"] = "auto"
    """`gram` releases items x items once, `subspace` items x rank in each round; `auto` goes by the catalogue."""
    rank: int = Field(default=256, ge=1, le=4096)
    """Most eigenvectors kept by `gram`."""
    subspace_rank: int = Field(default=32, ge=1, le=1024)
    """Eigenvectors that `subspace` iterates on."""
    iterations: int = Field(default=2, ge=1)
    """Rounds of `subspace`; more find a better subspace and leave each round less of the budget."""
    content_rank: int = Field(default=32, ge=0, le=1024)
    """Dimensions of the public content that `gram` shrinks on their own; 0 for none."""
    popularity_power: float = Field(default=0.25, ge=0, le=1)
    """An item of popularity p weighs p^-power in a history."""
    ridge: float = Field(default=10.0, ge=0)
    """An eigenvalue of this many users counts half."""
    noise_ridge: float = Field(default=0.18, ge=0)
    """Added to the ridge, times the spectral radius of the noise over 2."""
    popularity_share: float = Field(default=0.1, gt=0, lt=1)
    """Part of the budget for popularity; the eigenvectors get the rest."""


class Spectral(Algorithm):
    """See the module."""

    name: ClassVar[str] = "spectral"
    Config: ClassVar[type[Settings]] = SpectralConfig
    config: SpectralConfig

    def __init__(self, config: SpectralConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.items = len(setting.catalogue)
        self.public = public_kernels(setting.catalogue, products=False).to(setting.device)
        small = self.items <= GRAM_ITEMS
        self.gram = config.method == "gram" or (config.method == "auto" and small)
        self.rank = min(self.items, config.rank if self.gram else config.subspace_rank)

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"filter", "vectors"} if self.gram else {"filter"})

    @property
    def rounds(self) -> int:
        return 2 if self.gram else 1 + self.config.iterations

    @property
    def preparation(self) -> int:
        return 1  # the popularity

    def initial(self) -> Shared:
        one = torch.ones(self.items, device=self.setting.device)
        return {"popularity": one, **self._start(one)}

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        share = self.config.popularity_share
        if round == 0:
            return (popularity_query(self.items, share),)
        if self.gram:
            return (SumQuery("gram", (self.items * (self.items + 1) // 2,), 1.0, 1 - share, self.items),)
        return (SumQuery("projection", (self.items, self.rank), 1.0, (1 - share) / self.config.iterations),)

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        if round == 0:
            return {"popularity": popularity_contribution(users)}
        histories = WeightedHistories(users, self._weight(shared))
        if self.gram:
            return {"gram": HistoryGram(histories)}
        return {"projection": HistoryProjection(histories, shared["vectors"])}

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        if round == 0:
            popularity = denoise(sums["popularity"], self.public)
            return {"popularity": popularity, **self._start(popularity)}
        scale = self.setting.users / self.setting.expected_cohort
        (release,) = sums.values()
        value, noise = scale * release.value, scale * release.noise_std
        if self.gram:
            content = self._content(shared["popularity"], min(self.config.content_rank, self.items))
            values, vectors = shrunk_gram(unpack(value, self.items), noise, content, self.rank)
        else:
            values, vectors = extended_basis(value, noise, shared["vectors"])
        ridge = self.config.ridge + self.config.noise_ridge * noise * math.sqrt(self._noisy_dimensions / 2)
        kept = values.clamp(min=0)
        return shared | {"vectors": vectors, "filter": kept / (kept + ridge).clamp(min=1e-9)}

    def release(self, shared: Shared) -> SpectralModel:
        vectors = shared["vectors"]
        encode = self._weight(shared)[:, None] * vectors * shared["filter"]
        return SpectralModel(encode, vectors.clone(), shared["popularity"])

    @property
    def _noisy_dimensions(self) -> int:
        return self.items if self.gram else self.rank

    def _weight(self, shared: Shared) -> Tensor:
        popularity = shared["popularity"]
        weight: Tensor = (popularity / popularity.mean()) ** -self.config.popularity_power
        return weight

    def _content(self, popularity: Tensor, rank: int) -> Tensor:
        # An item's row of the Gram matrix is about as long as its weighted popularity, so its content counts by that.
        return content_basis(self.public, popularity ** (1 - self.config.popularity_power), rank)

    def _start(self, popularity: Tensor) -> Shared:
        return {
            "vectors": self._content(popularity, self.rank),
            "filter": torch.ones(self.rank, device=self.setting.device),
        }
