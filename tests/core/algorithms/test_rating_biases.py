"""`rating-biases`: the contract on rated users, shrinkage that follows the noise, the public scale, the device form."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.rating_biases import QUERY, RatingBiases, RatingSettings
from fedrec.algorithms.rating_model import RatingSolver, StarsModel
from fedrec.algorithms.rating_statistics import BiasEvidence
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.evaluation.ratings import RatingModel
from fedrec.ondevice.history import History
from fedrec.ondevice.released import load
from fedrec.ondevice.stars import StarsForm
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import Contribution, PrivateSum
from fedrec.settings import parse
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.ondevice import save_released
from fedrec.testing.toy_users import GROUPS, ITEMS, batch_of, close, planted_catalogue

FEW = RatingSettings(features=6, rounds=2)
BARE = FEW.model_copy(update={"features": 0})


def rated(users: UserBatch) -> UserBatch:
    """Users of the toy, who give items 1 to 5 stars by the item's number; each third item has none."""
    stars = (1.0 + users.items % 5).float()
    return replace(users, ratings=torch.where(users.items % 3 == 2, torch.nan, stars))


class RatedStars(StarsModel):
    """The model, which rates the events of the contract's users itself."""

    def fit(self, users: UserBatch) -> dict[str, torch.Tensor]:
        return super().fit(rated(users))

    def fold_in(
        self, state: dict[str, torch.Tensor], items: torch.Tensor, ratings: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        after, known = super().fold_in(state, items, (1.0 + items % 5).float()), items % 3 != 2
        pairs = ((name, after[name], state[name]) for name in after)
        return {name: torch.where(known.view(-1, *[1] * (new.ndim - 1)), new, old) for name, new, old in pairs}


class RatedBiases(RatingBiases):
    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        return super().contribute(shared, rated(users), round_index)

    def release(self, shared: Shared) -> StarsModel:
        made = super().release(shared)
        return RatedStars(made.items, made.bias, made.solver).by(self.name)


class TestContract(AlgorithmContract):
    learns_taste = False  # the toy's users rate what they like alone
    installed = False  # the wrapped class, which rates the toy's events
    not_on_device = "a device needs ratings, which the toy lacks; tested below"

    @pytest.fixture(scope="class")
    def form(self) -> None:
        pytest.skip(self.not_on_device)

    def make(self, facts: PublicFacts) -> Algorithm:
        return RatedBiases(BARE, facts)  # public features cost seconds each time; the tests below have them

    @pytest.mark.parametrize("private", [False, True])
    def test_a_user_without_history_gets_what_is_popular(self, private: bool) -> None:
        """Here: what is rated best."""
        algo = self.make(self.facts(mu=50.0) if private else self.facts())
        model = algo.release(self.train(algo, batch_of(self.skewed_rows()[0]), 1e-3 if private else 0.0))
        assert isinstance(model, StarsModel)
        listed, _ = model.recommend(batch_of([[]]), 8)
        assert torch.equal(model.bias[listed[0]], model.bias.sort(descending=True).values[:8])
        assert model.bias.unique().numel() > 4


def people(users: int = 200, seed: int = 0) -> tuple[UserBatch, torch.Tensor]:
    """Users who rate 15 items by their own bias, the item's bias and a taste; and every true expectation (U, I)."""
    draw = np.random.default_rng(seed)
    truth = 3.2 + draw.normal(0, 0.4, (users, 1)) + np.linspace(-1, 1, ITEMS)[None]
    truth = truth + 0.6 * (np.arange(users)[:, None] % GROUPS == np.arange(ITEMS) % GROUPS)
    rows = [[int(i) for i in draw.choice(ITEMS, 15, replace=False)] for _ in range(users)]
    noisy = [truth[user, item] + draw.normal(0, 0.5) for user, row in enumerate(rows) for item in row]
    stars = torch.tensor(np.clip(np.round(noisy), 1, 5), dtype=torch.float32)
    return replace(batch_of(rows), ratings=stars), torch.from_numpy(truth).clamp(1, 5)


def trained(config: RatingSettings, users: UserBatch, mu: float) -> StarsModel:
    algo = RatingBiases(config, PublicFacts(planted_catalogue(), len(users), float(len(users)), mu))
    shared, draw = algo.initial(), torch.Generator().manual_seed(3)
    for round_index in range(algo.rounds):
        (query,) = algo.queries(round_index)
        part = algo.contribute(shared, users, round_index)[QUERY]
        weights = clip_weights(part, query.clip_norm) if math.isfinite(mu) else torch.ones(len(users))
        noise = query.clip_norm / (mu * query.budget_share**0.5) if math.isfinite(mu) else 0.0
        value = part.weighted_sum(weights) + noise * torch.randn(query.shape, generator=draw)
        shared = algo.update(shared, {QUERY: PrivateSum(value, noise)}, round_index)
    return algo.release(shared)


@pytest.mark.parametrize("mu", [math.inf, 2.0])
def test_it_predicts_better_than_means_and_taste_pays(mu: float) -> None:
    users, truth = people()
    unseen = torch.ones_like(truth, dtype=torch.bool)
    unseen[users.owners, users.items] = False

    def error(predicted: torch.Tensor) -> float:
        return float((predicted.double() - truth)[unseen].square().mean().sqrt())

    everything = torch.arange(ITEMS).expand(len(users), -1)
    model, biases = (trained(c, users, mu) for c in (FEW, FEW.model_copy(update={"features": 0, "slopes": False})))
    assert isinstance(model, RatingModel)
    stars = users.ratings.double()
    mean = torch.zeros(len(users)).double().index_add_(0, users.owners, stars) / 15
    predicted = model.predict(model.fit(users), everything)
    alone = biases.predict(biases.fit(users), everything)
    assert error(predicted) < error(alone) < 0.75 * error(mean[:, None].expand_as(truth))
    assert predicted.min() >= 1
    assert predicted.max() <= 5


def test_without_noise_and_features_the_biases_are_damped_means() -> None:
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 60, (400,), generator=draw).double()
    true = 0.5 * torch.randn(400, generator=draw).double()
    sums = counts * true + (0.9 * counts).sqrt() * torch.randn(400, generator=draw).double()
    found = BiasEvidence(sums, counts, 0.0, 1.0).biases(torch.zeros(400, 0), 0.9)
    expected = sums / (counts + 0.9 / 0.25)
    assert float((found - expected).abs().mean()) < 0.05


@pytest.mark.parametrize("noise", [8.0, 20.0])
def test_the_shrinkage_follows_the_noise(noise: float) -> None:
    """A rule that ignores the noise, as damped means do, is far worse where the noise is large."""
    draw = torch.Generator().manual_seed(1)
    counts = 1 + 30 * torch.rand(500, generator=draw).double()
    true = 0.5 * torch.randn(500, generator=draw).double()
    spread = (0.9 * counts + noise**2).sqrt()
    sums = counts * true + spread * torch.randn(500, generator=draw).double()
    found = BiasEvidence(sums, counts, noise, 1.0).biases(torch.zeros(500, 0), 0.9)
    blind = sums / (counts + 3.6)
    assert (found - true).square().mean() < 0.75 * (blind - true).square().mean()
    assert (found - true).square().mean() < 1.05 * true.square().mean()


def test_a_rating_outside_the_public_scale_counts_as_its_end() -> None:
    """The attacker gives 1e30 stars, or minus infinity: the contribution is that of an honest 5 or 1."""
    users, _ = people(4)
    wild, tame = users.ratings.clone(), users.ratings.clone()
    wild[0], tame[0], wild[1], tame[1] = 1e30, 5.0, -math.inf, 1.0
    algo = RatingBiases(FEW, PublicFacts(planted_catalogue(), 4, 4.0, 1.0))
    parts = [
        algo.contribute(algo.initial(), replace(users, ratings=stars), step)[QUERY].dense(0)
        for stars in (wild, tame)
        for step in (0, 1)
    ]
    assert torch.equal(parts[0], parts[2])
    assert torch.equal(parts[1], parts[3])
    model = algo.release(algo.initial())
    assert torch.equal(*(model.fit(replace(users, ratings=stars))["vector"] for stars in (wild, tame)))


def test_counts_and_sums_share_one_clip() -> None:
    """The whole vector of a user, level included, moves the sum by at most the clip."""
    users, _ = people(6)
    algo = RatingBiases(FEW, PublicFacts(planted_catalogue(), 6, 6.0, 1.0))
    (query,) = algo.queries(0)
    assert query.shape == (2 * ITEMS + 1,)
    part = algo.contribute(algo.initial(), users, 0)[QUERY]
    weights = clip_weights(part, query.clip_norm)
    rows = torch.stack([weights[row] * part.dense(row).double() for row in range(6)])
    assert (rows.norm(dim=1) <= query.clip_norm * (1 + 1e-9)).all()
    assert rows[:, ITEMS : 2 * ITEMS].any(1).all()
    assert part.norms().min() > 0.5 * query.clip_norm


def test_a_rated_event_is_folded_in_and_one_without_a_rating_is_refused() -> None:
    users, _ = people(5)
    model = StarsModel(
        torch.randn(ITEMS, 4), torch.full((ITEMS,), 3.0), RatingSolver(ridge=1, decay=0.9, low=1, high=5)
    )
    last = users.offsets[1:] - 1
    before = model.fit(users.where(users.lags > 0))
    after = model.fold_in(before, users.items[last], users.ratings[last])
    assert close(after["vector"], model.fit(users)["vector"], 1e-4)
    with pytest.raises(InputError, match="needs the new event's rating"):
        model.fold_in(before, users.items[last])
    with pytest.raises(InputError, match="needs ratings, and the log has none"):
        model.fit(replace(users, ratings=None))


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_the_device_computes_the_same_stars(tmp_path: Path, decay: float) -> None:
    users, _ = people(8)
    stars = users.ratings.clone()
    stars[2], stars[3] = torch.nan, 9.0
    users = replace(users, ratings=stars)
    model = trained(FEW.model_copy(update={"decay": decay}), users, 3.0)
    form = load(save_released(model, tmp_path))
    assert isinstance(form, StarsForm)
    exact = model.precise
    assert isinstance(exact, StarsModel)
    everything = torch.arange(ITEMS)
    for row in range(len(users)):
        one = users.slice(row, row + 1)
        history = History(one.items.numpy(), one.ratings.numpy(), ordered=True)
        state, expected = form.fit(history), exact.fit(one)
        assert np.abs(form.exact(state, everything.numpy()) - exact.score(expected)[0].numpy()).max() < 1e-9
        assert (
            np.abs(form.predict(state, everything.numpy()) - exact.predict(expected, everything[None])[0].numpy()).max()
            < 1e-9
        )
        listed, _ = model.recommend(one, 10)
        assert form.top(state, 10, exclude=one.items.numpy())[0].tolist() == listed[0].tolist()
        shares = form.attribute(state, 3)
        pulls = sum(float(part.sum()) for part in shares.events.values())
        assert shares.baseline + pulls + sum(shares.rest.values()) == pytest.approx(
            float(form.exact(state, np.array([3]))[0])
        )
        again = form.fit(History(history.items[:-1], history.ratings[:-1], ordered=True))
        assert np.array_equal(
            form.record(again, int(history.items[-1]), float(history.ratings[-1])).sums["vector"], state.sums["vector"]
        )
    with pytest.raises(InputError, match="needs ratings"):
        form.fit(History(np.array([1, 2])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"low": 5.0, "high": 1.0}, "must be below high"), ({"lowest": 1.0}, "lowest"), ({"rounds": 0}, "rounds")],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(RatingSettings, settings, "here")
    assert "\n" not in str(caught.value)
