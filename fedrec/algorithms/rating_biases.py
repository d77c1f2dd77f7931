"""`rating-biases`: ratings from released item biases, and from each user's own taste over public features.

The only private release is one vector a round: for each item the sum of centred ratings and the sum of weights, and
the mean level of users. Whole contributions are clipped (`fedrec.algorithms.rating_statistics`). What a user likes is
fitted on the device alone (`fedrec.algorithms.rating_model`). `features = 0` with `slopes = false` leaves biases alone,
the honest baseline of every model of ratings.

Source: biases as in Koren, Bell, Volinsky 2009. Different: user biases never leave the device, item biases come from
noisy sums and are shrunk by the noise too, and the rest is a Bayesian regression over public features instead of
factors that people's ratings would have to train.

>>> import fedrec
>>> users, items = range(60), range(12)
>>> events = [(u, i, 4 if i % 2 else 2) for u in users for i in items if (u + i) % 3]
>>> log = {name: [event[at] for event in events] for at, name in enumerate(("user_id", "item_id", "rating"))}
>>> run = fedrec.simulate("rating-biases", fedrec.read_log(log), epsilon="none", seed=1, progress=False)
>>> [int(item) % 2 for item in run.model.recommend(history=["0"], ratings=[2.0], k=3)["item"]]
[1, 1, 1]
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.rating_model import RatingSolver, StarsModel, rated
from fedrec.algorithms.rating_statistics import BiasEvidence, standard
from fedrec.algorithms.stage import Stage, Staged
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import FLOOR, denoise
from fedrec.kernels.public import PublicKernels, public_kernels
from fedrec.privacy.queries import Contribution, PrivateSum, SparseContribution, SumQuery
from fedrec.settings import Settings
from fedrec.towers.features import public_features

QUERY = "ratings"
_LEVEL = 0.3  # weight of a user's own level in the vector


class RatingSettings(Settings):
    """Settings of the release of item biases and of a user's own taste; sizes are in units of a fourth of the scale."""

    low: float = 1.0
    """Lowest rating of the public scale; lower ratings count as it. Given, never derived from the log."""
    high: float = 5.0
    """Highest rating of the public scale; higher ratings count as it."""
    rounds: int | None = Field(default=None, ge=1, le=1000)
    """Releases of the biases, each with users centred by the one before; by default 6 without privacy, 2 with it."""
    count_weight: float = Field(default=0.5, gt=0)
    """Weight of an item's count beside its sum of ratings, under one clip."""
    clip_norm: float = Field(default=1.2, gt=0)
    """L2 clip on a user's whole contribution in a round: sums, counts and level together."""
    features: int = Field(default=64, ge=0, le=1024)
    """Most public feature columns that a user's own taste is fitted over; 0 for none."""
    slopes: bool = True
    """Fit each user's own slope over the popularity and over the bias of items."""
    noise: float = Field(default=0.85, gt=0)
    """Variance of a rating around its expectation."""
    own_bias: float = Field(default=0.45, gt=0)
    """Deviation of users' own biases."""
    own_slopes: float = Field(default=0.15, gt=0)
    """Deviation of users' own slopes over popularity and bias."""
    own_taste: float = Field(default=0.4, gt=0)
    """Deviation of what public features add to a user's rating of an item."""
    decay: float = Field(default=1.0, gt=0, le=1)
    """Recency: a rated event weighs decay ** (rated events after it)."""

    @model_validator(mode="after")
    def _ascends(self) -> "RatingSettings":
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}, the ends of the rating scale")
        return self


class RatingBiasesStage:
    """The release of item biases as the first part of an algorithm, and the model that follows from it.

    Args:
        config: its settings.
        facts: of the run.
        share: part of the privacy budget.
        centre: public rating of an item that nothing is known of; None takes the middle of the scale.
    """

    def __init__(self, config: RatingSettings, facts: PublicFacts, share: float, centre: float | None = None) -> None:
        self.config, self.facts = config, facts
        self.rounds = config.rounds or (2 if facts.private else 6)
        self.unit = (config.high - config.low) / 4
        self.middle = (config.high + config.low) / 2 if centre is None else centre
        items = len(facts.catalogue)
        query = SumQuery(QUERY, (2 * items + 1,), config.clip_norm, share / self.rounds)
        self.stage = Stage(self.rounds, (query,), self._contribute, self._update)
        none = torch.zeros(items, 0, device=facts.device)
        wanted = config.features and facts.catalogue.blocks
        self.features = public_features(facts.catalogue, config.features).to(facts.device) if wanted else none
        self.solver = RatingSolver(
            ridge=config.noise * self.unit**2, decay=config.decay, low=config.low, high=config.high
        )

    def initial(self) -> Shared:
        """Return the state before the release: nothing is known of any item."""
        zeros = torch.zeros(len(self.facts.catalogue), device=self.facts.device)
        sums = zeros.new_zeros(2 * len(zeros) + 1)
        return {"bias": zeros + self.middle, "slopes": torch.stack([zeros, zeros], 1), "rating_sums": sums}

    def model(self, shared: Shared, further: Tensor | None = None) -> StarsModel:
        """Return the model of a state.

        further: (items, d) columns of a trained tower; None for none.
        """
        config, bias = self.config, shared["bias"]
        columns = [torch.full_like(bias, config.own_bias * self.unit)[:, None]]
        if config.slopes:
            columns.append(config.own_slopes * self.unit * shared["slopes"])
        columns.append(config.own_taste * self.unit * self.features)
        if further is not None:
            columns.append(further)
        return StarsModel(torch.cat(columns, 1), bias, self.solver)

    @cached_property
    def _public(self) -> PublicKernels:
        return public_kernels(self.facts.catalogue, products=False).to(self.facts.device)

    def _contribute(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        users = rated(users).without_repeats()
        assert users.ratings is not None
        stars = users.ratings.double().clamp(self.config.low, self.config.high)
        owners, lengths = users.owners, users.lengths.double()
        mean = self._mean(users, stars - self.middle) + self.middle
        if step == 0:
            expected = mean[owners]
        else:
            model = self.model(shared).precise
            assert isinstance(model, StarsModel)
            rows = model.items[users.items]
            expected = (rows * model.vectors(users)[owners]).sum(1) + model.bias.mean()
        rest = (stars - expected).clamp(-4 * self.unit, 4 * self.unit) / self.unit
        weight = lengths.clamp(min=1).rsqrt()[owners] if self.facts.private else torch.ones_like(rest)
        present = (users.lengths > 0).nonzero()[:, 0]
        level = _LEVEL * (mean[present] - self.middle) / self.unit
        items, last = users.n_items, torch.full_like(present, 2 * users.n_items)
        values = torch.cat([weight * rest, self.config.count_weight * weight, level])
        positions = torch.cat([users.items, items + users.items, last])
        owner = torch.cat([owners, owners, present])
        return {QUERY: SparseContribution(owner, positions, values, len(users), (2 * items + 1,))}

    def _mean(self, users: UserBatch, stars: Tensor) -> Tensor:
        total = torch.zeros(len(users), dtype=torch.float64, device=users.device)
        return total.index_add_(0, users.owners, stars) / (users.lengths.double() + 1)

    def _update(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        release, items = sums[QUERY], len(self.facts.catalogue)
        private = release.noise_std > 0
        # Later rounds have better centres; under noise all of them count, else the newest alone.
        part = 2 / (step + 2) if private else 1.0
        mean = shared["rating_sums"] + part * (release.value - shared["rating_sums"])
        noise = release.noise_std * _deviation(step)
        counts = PrivateSum(mean[items : 2 * items] / self.config.count_weight, noise / self.config.count_weight)
        weights = denoise(counts, self._public) if private else counts.value.clamp(min=FLOOR)
        cohort = self.facts.expected_cohort
        mean_weight = cohort / max(float(weights.sum()), 1.0) if self.facts.private else 1.0
        evidence = BiasEvidence(self.unit * mean[:items], weights, self.unit * noise, min(mean_weight, 1.0))
        bias = evidence.biases(self.features, self.config.noise * self.unit**2)
        level = self.middle + self.unit * (mean[-1].double() / (_LEVEL * cohort)).clamp(-2, 2)
        slopes = torch.stack([standard(weights.double().log()), standard(bias)], 1)
        bias = (bias - bias.mean() + level).float()
        return dict(shared) | {"bias": bias, "slopes": slopes.float(), "rating_sums": mean}


def _deviation(step: int) -> float:
    """Deviation of the running mean after `step` + 1 sums of deviation 1, of which sum k weighs k + 1."""
    parts = [k + 1 for k in range(step + 1)]
    return float(sum(part**2 for part in parts) ** 0.5 / sum(parts))


class RatingBiases(Staged):
    """See the module."""

    name: ClassVar[str] = "rating-biases"
    Config: ClassVar[type[Settings]] = RatingSettings
    config: RatingSettings

    def __init__(self, config: RatingSettings, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.biases = RatingBiasesStage(config, facts, 1.0)

    @property
    def chosen(self) -> dict[str, Any]:
        return {"rounds": self.biases.rounds}

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.biases.stage,)

    @property
    def server_only(self) -> frozenset[str]:
        return frozenset({"rating_sums"})

    def initial(self) -> Shared:
        return self.biases.initial()

    def release(self, shared: Shared) -> StarsModel:
        return self.biases.model(shared).by(self.name)
