"""`spectral`: the leading eigenvectors of the items' co-occurrence under privacy, and a filter on their eigenvalues.

A user's history x (a unit vector over items, popular items weighted down) adds x x^T, of Frobenius norm 1, to the Gram
matrix of all users. Small catalogues (`gram`): the whole matrix is released once. Large ones (`subspace`): a few
rounds of subspace iteration, each a sum of x (x^T V) of shape items x rank. On the device a list is x V f V^T, with
f = value / (value + ridge).

Sources: Cremonesi et al. 2010 (PureSVD); Shen et al. 2021 (GF-CF: graph filters with weighted-down popular items);
Dwork et al. 2014 (noise on a Gram matrix); Hardt and Price 2014 (noisy subspace iteration). Here, the unit of privacy
is the user and eigenvalues are shrunk for the noise that they carry (`fedrec.kernels.shrinkage`). The part inside the
public content's subspace is shrunk on its own: few dimensions carry little noise, and it costs no budget to know them.
Under noise the direction of popularity is taken from its own release (`fedrec.algorithms.spectral_held`).

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> run = fedrec.simulate("spectral", data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.held_rows import popularity_budget
from fedrec.algorithms.spectral_held import held_vectors, kept_of_gram, kept_of_product, popular_direction
from fedrec.algorithms.spectral_sums import HistoryGram, HistoryProjection, WeightedHistories, unpack
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.kernels.new_items import Predictor
from fedrec.kernels.public import public_kernels
from fedrec.kernels.shrinkage import content_basis, extended_basis, shrunk_gram
from fedrec.model import ReleasedModel, or_popular
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

GRAM_ITEMS = 5000
"""Catalogues up to here are released as one Gram matrix by default: a message of at most 50 MB."""

KEPT = "kept"
"""Name in the shared state of the factor of each row of the eigenvectors."""
LEAST_SHARE, EVIDENT_RANK = 0.1, 32
"""Least part of a budget for popularity; eigenvectors that a budget should pay for before popularity gets no more."""


class SpectralModel(ReleasedModel):
    """encode, decode (items, rank): a profile is the sum of the history's rows of one, a score its product with the
    other. An event counts as often as it occurs. A user whose profile is zero gets the popularity (items,)."""

    kind: ClassVar[str] = "spectral"
    in_double = True

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

    def with_new_items(self, items: NewItems) -> "SpectralModel":
        """Predict both rows of new items from public features."""
        found = Predictor(items)
        wider = found.widened(self.encode), found.widened(self.decode), items.at_median(self.popularity)
        return SpectralModel(*wider).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        return {"encode": self.encode, "decode": self.decode, "popularity": self.popularity}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, object]) -> "SpectralModel":
        return cls(tensors["encode"], tensors["decode"], tensors["popularity"])


class SpectralConfig(Settings):
    """Settings of `spectral`. Defaults were chosen on the validation split of MovieLens-1M."""

    older_names: ClassVar[Mapping[str, str]] = {"iterations": "rounds"}

    method: Literal["auto", "gram", "subspace"] = "auto"
    """`gram` releases items x items once, `subspace` items x rank in each round; `auto` goes by the catalogue."""
    rank: int = Field(default=256, ge=1, le=4096)
    """Most eigenvectors kept by `gram`."""
    subspace_rank: int = Field(default=32, ge=1, le=1024)
    """Eigenvectors that `subspace` iterates on."""
    rounds: int = Field(default=2, ge=1)
    """Rounds of `subspace`; more find a better subspace and leave each round less of the budget."""
    content_rank: int = Field(default=32, ge=0, le=1024)
    """Dimensions of the public content that `gram` shrinks on their own; 0 for none."""
    popularity_power: float = Field(default=0.25, ge=0, le=1)
    """An item of popularity p weighs p^-power in a history."""
    ridge: float = Field(default=10.0, ge=0)
    """An eigenvalue of this many users counts half."""
    noise_ridge: float = Field(default=0.18, ge=0)
    """Added to the ridge, times the spectral radius of the noise over 2."""
    popularity_share: float | None = Field(default=None, gt=0, lt=1)
    """Part of the budget for popularity, the eigenvectors get the rest; left out, 0.1, and more where the budget cannot
    pay for eigenvectors."""


class Spectral(Staged):
    """See the module."""

    name: ClassVar[str] = "spectral"
    Config: ClassVar[type[Settings]] = SpectralConfig
    fixed_clips = {"projection": "no user's part is longer than 1, and cutting it would bend the spectrum"}
    config: SpectralConfig

    def __init__(self, config: SpectralConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.items = len(facts.catalogue)
        self.public = public_kernels(facts.catalogue, products=False).to(facts.device)
        small = self.items <= GRAM_ITEMS
        self.gram = config.method == "gram" or (config.method == "auto" and small)
        self.rank = min(self.items, config.rank if self.gram else config.subspace_rank)
        self.popularity_share = config.popularity_share or self._open_share()

    def _open_share(self) -> float:
        if not self.facts.private:
            return LEAST_SHARE
        rounds = 1 if self.gram else self.config.rounds
        return popularity_budget(self.facts, LEAST_SHARE, self.items * EVIDENT_RANK, rounds)

    @property
    def chosen(self) -> dict[str, Any]:
        return {"popularity_share": self.popularity_share}

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"filter", KEPT} | ({"vectors"} if self.gram else set()))

    @property
    def stages(self) -> tuple[Stage, ...]:
        share, config = self.popularity_share, self.config
        popularity = popularity_stage(self.facts, share, self._begin, public=self.public)
        if self.gram:
            packed = (self.items * (self.items + 1) // 2,)
            gram = SumQuery("gram", packed, 1.0, 1 - share, self.items)
            return (popularity, Stage(1, (gram,), self._gram, self._decompose))
        projection = SumQuery("projection", (self.items, self.rank), 1.0, (1 - share) / config.rounds)
        return (popularity, Stage(config.rounds, (projection,), self._project, self._iterate))

    def initial(self) -> Shared:
        return self._start(torch.ones(self.items, device=self.facts.device))

    def _begin(self, _shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        return self._start(popularity)

    def _start(self, popularity: Tensor) -> Shared:
        vectors, uniform = self._content(popularity, self.rank), torch.ones(self.rank, device=self.facts.device)
        return {"popularity": popularity, "vectors": vectors, "filter": uniform}

    def _gram(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        return {"gram": HistoryGram(WeightedHistories(users, self._weight(shared)))}

    def _decompose(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        """The leading eigenvectors of the whole matrix; the part in the content's subspace is shrunk on its own."""
        value, noise = self._of_everybody(sums["gram"])
        content = self._content(shared["popularity"], min(self.config.content_rank, self.items))
        gram = unpack(value, self.items)
        held = self._held(shared, kept_of_gram, gram, noise)
        values, vectors = shrunk_gram(gram, noise, content, self.rank)
        return shared | {"vectors": vectors, "filter": self._filter(values, noise, self.items)} | held

    def _project(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        return {"projection": HistoryProjection(WeightedHistories(users, self._weight(shared)), shared["vectors"])}

    def _iterate(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        """One step of the subspace iteration."""
        value, noise = self._of_everybody(sums["projection"])
        basis = shared["vectors"]
        held = self._held(shared, kept_of_product, value, noise, basis)
        values, vectors = extended_basis(value, noise, basis)
        return shared | {"vectors": vectors, "filter": self._filter(values, noise, self.rank)} | held

    def release(self, shared: Shared) -> SpectralModel:
        vectors = shared["vectors"]
        if KEPT in shared:
            vectors = held_vectors(vectors, shared[KEPT], self._direction(shared))
        encode = self._weight(shared)[:, None] * vectors * shared["filter"]
        return SpectralModel(encode, vectors.clone(), shared["popularity"])

    def _of_everybody(self, release: PrivateSum) -> tuple[Tensor, float]:
        """A cohort's sum and its noise, scaled to the population."""
        scale = self.facts.users / self.facts.expected_cohort
        return scale * release.value, scale * release.noise_std

    def _filter(self, values: Tensor, noise: float, dimensions: int) -> Tensor:
        """f (rank,) of eigenvalues (rank,) whose matrix has noise in so many dimensions."""
        ridge = self.config.ridge + self.config.noise_ridge * noise * math.sqrt(dimensions / 2)
        kept = values.clamp(min=0)
        return kept / (kept + ridge).clamp(min=1e-9)

    def _held(
        self, shared: Shared, rule: Callable[..., Tensor], release: Tensor, noise: float, *basis: Tensor
    ) -> Shared:
        """Return the part of the state that holds the eigenvectors' rows; nothing without noise."""
        if not noise > 0:
            return {}
        return {KEPT: rule(release, noise, *basis, self._direction(shared), shared["popularity"])}

    def _direction(self, shared: Shared) -> Tensor:
        return popular_direction(shared["popularity"], self._weight(shared))

    def _weight(self, shared: Shared) -> Tensor:
        popularity = shared["popularity"]
        weight: Tensor = (popularity / popularity.mean()) ** -self.config.popularity_power
        return weight

    def _content(self, popularity: Tensor, rank: int) -> Tensor:
        # An item's row of the Gram matrix is about as long as its weighted popularity, so its content counts by that.
        return content_basis(self.public, popularity ** (1 - self.config.popularity_power), rank)
