"""Mean ratings in the sum of popularity: one clip for both, an oracle, shrinkage by the noise, and a kernel."""

import base64
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fedrec
from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.algorithms.kernel_rank_stars import STARS, mean_ratings
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.stars import rated_contribution, split_release, stars_map
from fedrec.kernels.stars_plan import ENERGY, NAME, QUERY, SHARE
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.toy_users import ITEMS, batch_of, planted_catalogue

SCALE = (1.0, 5.0)
rating = st.one_of(st.floats(width=32), st.sampled_from([math.nan, math.inf, -math.inf, 1e30, 1.0, 3.0, 5.0]))
history = st.lists(st.tuples(st.integers(0, ITEMS - 1), rating), max_size=60)


def rated(rows: list[list[tuple[int, float]]]) -> UserBatch:
    users = batch_of([[item for item, _ in row] for row in rows])
    stars = torch.tensor([value for row in rows for _, value in row], dtype=torch.float32)
    return UserBatch(users.items, users.lengths, ITEMS, users.keys, ratings=stars)


def slowly(row: list[tuple[int, float]]) -> np.ndarray:
    """One user from the definition."""
    first: dict[int, float] = {}
    for item, value in row:
        first.setdefault(item, value)
    placed = {item: (min(max(value, 1.0), 5.0) - 3) / 2 for item, value in first.items() if not math.isnan(value)}
    mean, found = sum(placed.values()) / (len(placed) + 1), np.zeros(2 * ITEMS)
    for item in first:
        found[item] = math.sqrt((1 - SHARE) / len(first))
        found[ITEMS + item] = math.sqrt(SHARE / ENERGY / len(first)) * (placed[item] - mean if item in placed else 0.0)
    return found / max(1.0, float(np.linalg.norm(found)))


@settings(max_examples=60, deadline=None)
@given(st.lists(history, min_size=1, max_size=3))
def test_whoever_leaves_takes_one_vector_of_norm_1_at_most(rows: list[list[tuple[int, float]]]) -> None:
    part = rated_contribution(rated(rows), SCALE)
    assert float(part.norms().max()) <= 1 + 1e-6, "the clip would cut"
    weights = clip_weights(part, 1.0)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(part.dense(place).numpy(), slowly(row), atol=1e-6)
        without = weights.clone()
        without[place] = 0
        apart = part.weighted_sum(weights).double() - part.weighted_sum(without).double()
        assert float(apart.norm()) <= 1 + 1e-5, "both vectors together, not each"


def test_the_clip_is_over_both_vectors() -> None:
    """Ratings at both ends of the scale have four times the usual energy; popularity must not keep its norm then."""
    row = [(item, 1.0 if item % 2 else 5.0) for item in range(ITEMS)]
    part = rated_contribution(rated([row]), SCALE).dense(0)
    assert float(part.double().norm()) <= 1 + 1e-6
    assert float(part[:ITEMS].norm()) < math.sqrt(1 - SHARE) - 0.05
    assert float(part[ITEMS:].norm()) > 0.5


def test_unknown_ratings_add_to_popularity_alone() -> None:
    part = rated_contribution(rated([[(3, math.nan), (4, math.nan)]]), SCALE).dense(0)
    assert part.nonzero()[:, 0].tolist() == [3, 4]


def facts(mu: float = 1.0) -> PublicFacts:
    return PublicFacts(planted_catalogue(), users=400, expected_cohort=400.0, mu=mu, seed=3)


def population(users: int = 400) -> UserBatch:
    """Items 0 to 9 are rated 5 by everybody, the others 2 to 4."""
    draw, rows = np.random.default_rng(2), []
    for _ in range(users):
        items = draw.permutation(ITEMS)[:12].tolist()
        rows.append([(item, 5.0 if item < 10 else float(draw.integers(2, 5))) for item in items])
    return rated(rows)


def released(noise: float) -> torch.Tensor:
    value = rated_contribution(population(), SCALE).weighted_sum(torch.ones(400))
    noisy = value + noise * torch.randn(value.shape, generator=torch.Generator().manual_seed(5))
    _, ratings = split_release(PrivateSum(noisy, noise))
    return mean_ratings(facts(), split_release(PrivateSum(value, 0.0))[0].value, ratings)


def test_well_rated_items_are_found_and_noise_shrinks_all_of_them_together() -> None:
    exact, little, much = released(0.0), released(1.0), released(60.0)
    assert float(exact[:10].min()) > float(exact[10:].max()) + 1
    assert float(little[:10].mean() - little[10:].mean()) > 1
    assert float(much.std()) < 0.35 * float(exact.std()), "noise must not look like taste"
    kernel = stars_map(exact).values @ stars_map(exact).values.T
    assert float(kernel[:10, :10].min()) > 2 * float(kernel[:10, 10:].max())


def small(**changes: object) -> KernelRankConfig:
    base = {"decays": (1.0, 0.5), "kernel_rank": 8, "head_items": 24, "targets": 2, "negatives": 8, "rounds": 2}
    return KernelRankConfig.model_validate(base | {"stars": SCALE, "cooccurrence": True} | changes)


@pytest.mark.slow
@pytest.mark.parametrize("private", [True, False])
def test_the_round_is_one_sum_and_the_model_has_the_kernel(private: bool) -> None:
    found = KernelRank(
        small() if private else small(head_items=None, cooccurrence=None), facts(1.0 if private else math.inf)
    )
    (query,) = found.queries(0)
    assert (query.name, query.shape, query.clip_norm) == (QUERY, (2 * ITEMS,), 1.0)
    users, shared = population(), found.initial()
    for number in range(found.rounds):
        sent = found.for_devices(shared, number)
        parts = found.contribute(sent, users, number)
        sums = {name: PrivateSum(part.weighted_sum(part.unit_weights()), 0.0) for name, part in parts.items()}
        shared = found.update(shared, sums, number)
    model = found.release(shared)
    assert NAME in model.explain(model.fit(users.slice(0, 1)), torch.arange(ITEMS)[None])
    assert float(shared[STARS][:10].min()) > float(shared[STARS][10:].max())


def test_without_the_setting_nothing_changes() -> None:
    plain, other = (KernelRank(small(stars=None), facts()) for _ in range(2))
    assert [q.name for q in plain.queries(0)] == ["popularity"]
    first = plain.contribute(plain.initial(), population(), 0)["popularity"]
    unrated = batch_of([[int(i) for i in row] for row in population().items.view(400, 12)])
    again = other.contribute(other.initial(), unrated, 0)["popularity"]
    assert torch.equal(first.weighted_sum(torch.ones(400)), again.weighted_sum(torch.ones(400)))


def test_a_log_without_ratings_and_a_scale_the_wrong_way_are_refused() -> None:
    found = KernelRank(small(), facts())
    with pytest.raises(InputError, match=r"algorithm\.stars needs ratings"):
        found.contribute(found.initial(), batch_of([[1, 2]]), 0)
    for scale in ((5, 1), (1, 1), (1, math.inf)):
        with pytest.raises(ValueError, match="stars"):
            small(stars=scale)


def opened(text: str) -> list[str]:
    """What a line of a ledger holds, one envelope after the other."""
    found = []
    while text:
        found.append(text)
        inner = re.search(r'"payload":\s*"([^"]*)"', text)
        text = "" if inner is None else base64.b64decode(inner[1]).decode()
    return found


@pytest.mark.slow
def test_the_ledger_of_a_run_names_the_sum_and_its_epsilon_holds(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    users, items = np.repeat(np.arange(60), 8), np.concatenate([draw.permutation(20)[:8] for _ in range(60)])
    log = {"user_id": users.tolist(), "item_id": items.tolist(), "rating": np.where(items < 5, 5, 2).tolist()}
    run = fedrec.simulate(
        "kernel-rank",
        fedrec.read_log(log),
        epsilon=8,
        seed=1,
        out=tmp_path / "run",
        settings={"algorithm.stars": SCALE, "algorithm.rounds": 2},
        progress=False,
    )
    ledger = (tmp_path / "run" / "release" / "privacy" / "ledger.jsonl").read_text()
    assert any(QUERY in text for line in ledger.splitlines() for text in opened(line))
    assert run.epsilon is not None
    assert run.epsilon <= 8
