"""`kernel-rank` with its defaults against DP popularity at the same epsilon, on logs of every shape.

A personalised method that falls below counting is worth less than nothing. The whole grid is
`python -m tests.simulation.below_popularity`.
"""

import random
from pathlib import Path

import pytest
from fedrec_sim.engines.setup import popularity

import fedrec
from fedrec.data.datasets import DataConfig, load
from fedrec.data.shapes import SHAPES
from fedrec.data.splits import split
from fedrec.evaluation.ranking import ranks
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.scenario import EngineConfig
from tests.simulation.below_popularity import ERRORS, Pair, behind, below, compared, real


@pytest.mark.parametrize("shape", SHAPES)
def test_generated_shapes(shape: str) -> None:
    assert not below(behind([compared({"name": shape}, 3.0, 0)]))


@pytest.mark.slow
def test_cold_users_without_noise() -> None:
    """Weights that two or three events a user teach must not rank worse than the popularity that they start from."""
    assert not below(behind([compared({"name": "cold-users"}, "none", seed) for seed in range(2)]))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [8.0, 1.0])
@pytest.mark.parametrize("name", ["ml-100k", "ml-latest-small"])
def test_small_real_logs(name: str, epsilon: float, data_dir: Path) -> None:
    assert not below(behind([compared(real(name, data_dir), epsilon, 0, data_dir)]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4])
def test_few_users_with_a_sharp_order(seed: int) -> None:
    """400 users walk a ring of 200 items: their pairs are few and strong, and the first part of them shows it dimly."""
    rng, events = random.Random(0), []
    for user in range(400):
        item = rng.randrange(200)
        for time in range(20):
            events.append((user, item, time))
            item = (item + rng.randint(1, 3)) % 200
    data = fedrec.read_log(dict(zip(("user_id", "item_id", "timestamp"), zip(*events, strict=True), strict=True)))
    found = {
        name: fedrec.simulate(name, data, epsilon=8.0, seed=seed, progress=False).metrics["hr@10"]
        for name in ("kernel-rank", "popularity")
    }
    assert found["kernel-rank"] > 2 * found["popularity"]


def test_the_comparison_can_fail() -> None:
    """Popularity without noise against popularity that drowns in it: the check must see that."""
    config = DataConfig(name="few-items")
    dataset = load(config, None, 0)
    made = split(dataset, config.split, "validation", 0)
    request = DataRequest(data=config, on="validation", seed=0)
    good, bad = (
        ranks(popularity(privacy, EngineConfig(), dataset, made, request=request, noise_seed=0), made)
        for privacy in (PrivacyConfig(epsilon="none"), PrivacyConfig(epsilon=0.05, delta=1e-5))
    )
    assert max(behind([Pair(bad, good)]).values()) > ERRORS
    assert max(behind([Pair(good, good)]).values()) == 0
    assert max(behind([Pair(good, bad)]).values()) < ERRORS
