"""Federated implicit ALS: devices solve their own vector, the server solves the items from summed statistics.

Minimises  sum over events (1 - s)^2 + alpha0 * sum over all pairs s^2 + reg * (sum_u (n_u + alpha0 I)^nu |w_u|^2
+ sum_i (n_i + alpha0 U)^nu |h_i|^2),  s = <w_u, h_i>.

Source: Hu, Koren, Volinsky 2008; the objective, the scale of its regulariser and the initial values are those of
Rendle et al. 2022 ("Revisiting the performance of iALS"). Federated as in DPALS (Chien et al., ICML 2021): a user
adds w w^T to the Gram matrix of all users, and (w w^T, w, 1) to each item of the history. The item side sees sums
alone, so without privacy the result is that of central ALS. Different from DPALS: no per-user cap on items (the
clip is on the whole contribution), sums arrive with noise already on them, and under privacy item vectors begin with
the released popularity and leave it as far as their statistics exceed the noise (`fedrec.algorithms.held_rows`).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import embedding

from fedrec import draws
from fedrec.algorithms.als_held import level, solved_beside
from fedrec.algorithms.als_statistics import GramContribution, ItemStatistics, SymmetricPacking
from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.held_rows import popularity_budget
from fedrec.algorithms.ragged import each_rectangle
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.kernels.new_items import Predictor
from fedrec.kernels.popularity import mean_popularity
from fedrec.model import ReleasedModel, or_popular
from fedrec.parallel import run_jobs
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.rowwise import bmm, power
from fedrec.settings import Settings

_ITEMS_AT_ONCE = {"cpu": 1 << 8, "cuda": 1 << 13}
_KEPT = "kept"
"""Name in the shared state of the factor of each item's movement."""
LEAST_SHARE = 0.1
"""Least part of a private budget for popularity."""


def padded(table: Tensor) -> Tensor:
    """The table with a row of zeros at its end, for `each_rectangle` to point at."""
    return torch.cat([table, table.new_zeros(1, *table.shape[1:])])


def ridge_solve(outer: Tensor, gram: Tensor, ridge: Tensor, total: Tensor) -> Tensor:
    """x of (outer + gram + ridge I) x = total, for (N, d, d), (d, d), (N,) and (N, d)."""
    normal = outer + gram
    normal.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    factor, _ = torch.linalg.cholesky_ex(normal)
    half = torch.linalg.solve_triangular(factor, total[:, :, None], upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, :, 0]


class ALSModel(ReleasedModel):
    """Item vectors (I, d) and their Gram matrix; a device solves its own vector exactly. A user whose vector is zero
    gets the popularity (I,)."""

    kind: ClassVar[str] = "als"
    in_double = True

    def __init__(
        self, items: Tensor, gram: Tensor, popularity: Tensor, *, alpha0: float, reg: float, nu: float
    ) -> None:
        self.items, self.gram, self.popularity = items, gram, popularity
        self.alpha0, self.reg, self.nu = alpha0, reg, nu
        self._table = padded(items)

    def vectors(self, users: UserBatch) -> Tensor:
        """The users' vectors (B, d) in memory that does not grow with B x d x d."""
        vectors = self.items.new_zeros(len(users), self.items.shape[1])

        def solve(group: Tensor, index: Tensor) -> None:
            vectors[group] = self._vectors(*self._statistics(index), users.lengths[group])

        each_rectangle(solve, users.items, users.lengths, pad=len(self.items))
        return vectors

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """vector (B, d), and what folding in needs: outer (B, d, d), total (B, d), count (B,)."""
        size, dim = len(users), self.items.shape[1]
        outer, total = self.items.new_zeros(size, dim, dim), self.items.new_zeros(size, dim)
        vector = torch.zeros_like(total)

        def solve(group: Tensor, index: Tensor) -> None:
            outer[group], total[group] = self._statistics(index)
            vector[group] = self._vectors(outer[group], total[group], users.lengths[group])

        each_rectangle(solve, users.items, users.lengths, pad=len(self.items))
        return {"outer": outer, "total": total, "count": users.lengths, "vector": vector}

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        row = self.items[items]
        outer = state["outer"] + row[:, :, None] * row[:, None, :]
        total, count = state["total"] + row, state["count"] + 1
        return {"outer": outer, "total": total, "count": count, "vector": self._vectors(outer, total, count)}

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        vector = state["vector"]
        if candidates is None:
            scores = vector @ self.items.mT
        else:
            scores = torch.bmm(self.items[candidates], vector[:, :, None])[:, :, 0]
        return or_popular(scores, ~vector.any(1), self.popularity, candidates)

    def item_rows(self, items: Tensor) -> Tensor:
        return self.items[items]

    def with_new_items(self, items: NewItems) -> "ALSModel":
        """Predict the vectors of new items from public features; the Gram matrix stays that of the trained items."""
        wider, popularity = Predictor(items).widened(self.items), items.at_median(self.popularity)
        return ALSModel(wider, self.gram, popularity, alpha0=self.alpha0, reg=self.reg, nu=self.nu).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        return {"items": self.items, "gram": self.gram, "popularity": self.popularity}

    def manifest(self) -> dict[str, Any]:
        return {"alpha0": self.alpha0, "reg": self.reg, "nu": self.nu}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "ALSModel":
        settings = {name: manifest[name] for name in ("alpha0", "reg", "nu")}
        return cls(tensors["items"], tensors["gram"], tensors["popularity"], **settings)

    def _statistics(self, index: Tensor) -> tuple[Tensor, Tensor]:
        row = embedding(index, self._table)  # (G, L, d)
        return bmm(row.mT, row), row.sum(1)

    def _vectors(self, outer: Tensor, total: Tensor, count: Tensor) -> Tensor:
        ridge = self.reg * power(count.to(self.items.dtype) + self.alpha0 * len(self.items), self.nu)
        return ridge_solve(outer, self.alpha0 * self.gram, ridge, total)


class ALSConfig(Settings):
    """Settings of `als`, chosen on the validation split of MovieLens-1M (each user's newest training event)."""

    older_values: ClassVar[Mapping[str, Any]] = {"popularity_share": 0.0}
    older_names: ClassVar[Mapping[str, str]] = {"gram_clip": "gram_clip_norm", "items_clip": "items_clip_norm"}

    dim: int | None = Field(None, ge=1, le=1024)
    """Length of a user's and an item's vector; by default 64 without privacy, 16 with it."""
    rounds: int | None = Field(None, ge=1)
    """Alternations, each one solve of every user and one of every item; by default 10 without privacy, 2 with it."""
    alpha0: float = Field(0.3, gt=0)
    """Weight of a pair without an event (an event adds 1)."""
    reg: float = Field(0.003, gt=0)
    """Ridge, times (count + alpha0 x population) ** nu."""
    nu: float = Field(1.0, ge=0, le=2)
    """How the ridge grows with frequency."""
    init_std: float = Field(0.1, gt=0)
    """Initial item entries are normal with standard deviation init_std / sqrt(dim)."""
    gram_clip_norm: float = Field(1.0, gt=0)
    """L2 clip on a user's part of the Gram matrix."""
    items_clip_norm: float = Field(3.5, gt=0)
    """L2 clip on a user's part of all items' statistics together."""
    max_item_norm: float = Field(3.0, gt=0)
    """Under privacy, item vectors longer than this are scaled down to it, so that noise cannot build up over rounds."""
    gram_share: float = Field(0.1, gt=0, lt=1)
    """Part of the training's budget for the Gram matrix; the items' statistics get the rest."""
    popularity_share: Annotated[float, Field(ge=0, lt=1)] | Literal["by budget"] = "by budget"
    """Part of the privacy budget for a first round of popularity, which the item vectors begin with and hold to. By
    default it follows from the budget, and is 0 without privacy. 0: no such round, and noise may rank below
    popularity."""


class ALS(Staged):
    """Federated implicit ALS."""

    name: ClassVar[str] = "als"
    Config: ClassVar[type[Settings]] = ALSConfig
    begins: ClassVar[bool] = True
    config: ALSConfig

    def __init__(self, config: ALSConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.dim = config.dim or (16 if facts.private else 64)
        self.steps = config.rounds or (2 if facts.private else 10)
        self.packing = SymmetricPacking(self.dim, facts.device)
        given = config.popularity_share
        self.popularity_share = self._open_share() if given == "by budget" else given

    def _open_share(self) -> float:
        if not self.facts.private:
            return 0.0
        size = len(self.facts.catalogue) * (self.packing.size + self.dim)
        return popularity_budget(self.facts, LEAST_SHARE, size, self.steps)

    @property
    def chosen(self) -> dict[str, Any]:
        return {"dim": self.dim, "rounds": self.steps, "popularity_share": self.popularity_share}

    @property
    def stages(self) -> tuple[Stage, ...]:
        share = self.popularity_share
        training = Stage(self.steps, self._statistics((1 - share) / self.steps), self._contribute, self._solve)
        return (popularity_stage(self.facts, share, self._begin), training) if share else (training,)

    def initial(self) -> Shared:
        items = self._random()
        if (start := self.facts.start) is not None:
            begun = start.of_width(self.dim).to(items)
            items = torch.where(start.known.to(items.device)[:, None], begun, items)
        one = torch.ones(len(items), device=self.facts.device)
        return self._item_side(items) | {"counts": torch.zeros_like(one), "popularity": one}

    def _random(self) -> Tensor:
        index = torch.arange(len(self.facts.catalogue), device=self.facts.device)
        return draws.normal(draws.keys(self.facts.seed, index), 0, self.dim) * (
            self.config.init_std / math.sqrt(self.dim)
        )

    def _begin(self, shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        if self.facts.start is not None:
            return shared | {"popularity": popularity}  # item vectors begin with those of the other run
        items = torch.cat([level(popularity), shared["items"][:, 1:]], 1)
        return shared | self._item_side(items) | {"popularity": popularity, _KEPT: torch.zeros_like(popularity)}

    def _statistics(self, share: float) -> tuple[SumQuery, ...]:
        config, packed = self.config, self.packing.size
        shape = (len(self.facts.catalogue), packed + self.dim + 1)
        return (
            SumQuery("gram", (packed,), config.gram_clip_norm, config.gram_share * share, self.dim),
            SumQuery("items", shape, config.items_clip_norm, (1 - config.gram_share) * share, self.dim),
        )

    def _contribute(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        vectors = self._solver(shared["items"], shared["gram"], shared["items"][:, 0]).vectors(users)
        return {"gram": GramContribution(vectors), "items": ItemStatistics(vectors, users)}

    def _solve(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        config, population = self.config, self.facts.users
        scale = population / self.facts.expected_cohort  # a sampled cohort's sum stands for the population's
        gram = scale * self.packing.unpack(sums["gram"].value)
        if sums["gram"].noise_std > 0:
            gram = _positive(gram)
        statistics = sums["items"]
        holds = _KEPT in shared
        items = torch.empty_like(shared["items"])
        sides = (items.new_empty(len(items), self.dim, self.dim), torch.empty_like(items)) if holds else ()

        def solve(some: slice) -> None:
            packed, total, count = (scale * statistics.value[some]).split([self.packing.size, self.dim, 1], dim=1)
            outer = self.packing.unpack(packed)
            if statistics.noise_std > 0:
                outer, count = _positive(outer), count.clamp(min=0)
            ridge = config.reg * (count[:, 0] + config.alpha0 * population) ** config.nu
            if sides:
                normal = outer + config.alpha0 * gram
                normal.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
                sides[0][some], sides[1][some] = normal, total
                return
            if statistics.noise_std > 0:
                total = _shrunk(total, scale * statistics.noise_std)
            items[some] = self._bounded(ridge_solve(outer, config.alpha0 * gram, ridge, total), statistics)

        at_once = _ITEMS_AT_ONCE["cpu" if items.device.type == "cpu" else "cuda"]
        parts = ((slice(start, start + at_once),) for start in range(0, len(items), at_once))
        run_jobs(solve, parts, items.device)
        if sides:
            first = level(shared["popularity"])
            noise = scale * statistics.noise_std, scale * config.alpha0 * sums["gram"].noise_std
            rest, part = solved_beside(first, *sides, noise, shared["popularity"], at_once)
            random = self._random()[:, 1:]  # an item that stays keeps it, so that vectors differ in the next round
            rest = part[:, None] * self._bounded(rest, statistics) + (1 - part[:, None]) * random
            return shared | self._item_side(torch.cat([first, rest], 1)) | {_KEPT: part}
        occurs = PrivateSum(statistics.value[:, -1], statistics.noise_std)  # the count, released with the rest
        counts, popularity = mean_popularity(shared["counts"], occurs, step, self.facts.catalogue)
        return self._item_side(items) | {"counts": counts, "popularity": popularity}

    def _bounded(self, vectors: Tensor, release: PrivateSum) -> Tensor:
        if not release.noise_std > 0:
            return vectors
        return vectors * (self.config.max_item_norm / vectors.norm(dim=1, keepdim=True)).clamp(max=1.0)

    def release(self, shared: Shared) -> ALSModel:
        if _KEPT not in shared:
            return self._solver(shared["items"], shared["gram"], shared["popularity"])
        items, random = shared["items"], self._random()
        target = torch.cat([items[:, :1], torch.zeros_like(items[:, 1:])], 1)
        random[:, :1] = items[:, :1]
        items = items - (1 - shared[_KEPT][:, None]) * (random - target)
        return self._solver(items, items.mT @ items, shared["popularity"])

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"counts", "popularity", _KEPT})

    def _solver(self, items: Tensor, gram: Tensor, popularity: Tensor) -> ALSModel:
        config = self.config
        return ALSModel(items, gram, popularity, alpha0=config.alpha0, reg=config.reg, nu=config.nu)

    def _item_side(self, items: Tensor) -> Shared:
        return {"items": items, "gram": items.mT @ items}


def _positive(matrices: Tensor) -> Tensor:
    """The nearest positive semi-definite matrices (DPALS, algorithm 1): noise must not turn a ridge negative."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp(min=0)[..., None, :]) @ vectors.mT


def _shrunk(total: Tensor, noise_std: float) -> Tensor:
    """James-Stein (positive part) on rows (N, d): rows that are no longer than their noise become zero. It is for
    three dimensions and more; with fewer a row stays as it is."""
    expected = max(total.shape[1] - 2, 0) * noise_std**2
    return total * (1 - expected / total.square().sum(1, keepdim=True).clamp(min=1e-30)).clamp(min=0)
