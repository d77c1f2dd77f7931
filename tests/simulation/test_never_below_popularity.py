"""`kernel-rank` with its defaults against DP popularity at the same epsilon, on logs of every shape.

A personalised method that falls below counting is worth less than nothing. The comparison is paired over users: the
difference of their metrics, and its standard error. Seeds, which draw generated logs anew, add users.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedrec_server.scenario import EngineConfig
from fedrec_sim.experiment import Experiment, popularity

from fedrec.algorithms.kernel_rank import KernelRank, KernelRankConfig
from fedrec.data.datasets import DataConfig, load
from fedrec.data.shapes import SHAPES
from fedrec.data.splits import split
from fedrec.evaluation.ranking import Ranks, ranks
from fedrec.evaluation.significance import user_values
from fedrec.federation.exchange import DataRequest
from fedrec.privacy.plan import PrivacyConfig

ERRORS = 3.0
"""Standard errors that kernel-rank may lie below popularity: one of 700 comparisons of equals does."""
BASELINE = 1000  # added to a seed for the noise of the popularity that it is compared with
EPSILONS = ("none", 8.0, 3.0, 1.0, 0.5)
DATASETS: dict[str, dict[str, Any]] = {
    "ml-100k": {"name": "ml-100k"},
    "ml-latest-small": {"name": "ml-latest-small"},
    "ml-1m": {"name": "ml-1m", "split": "ncf"},
    "citeulike": {"path": "citeulike/events.parquet", "split": "ratio", "hold_out": {"share": 0.2}},
    "beauty": {"path": "beauty/events.parquet", "catalogue": "beauty/catalogue.parquet"},
    "gowalla": {"name": "gowalla", "split": "given"},
}


@dataclass(frozen=True)
class Pair:
    """The ranks of the same held-out items under kernel-rank and under popularity."""

    own: Ranks
    floor: Ranks


def compared(data: dict[str, Any], epsilon: float | str, seed: int, folder: Path | None = None) -> Pair:
    """Both methods on the validation split, each with noise of its own."""
    config = DataConfig.model_validate(data)
    dataset = load(config, folder, seed)
    made = split(dataset, config.split, "validation", seed)
    privacy = PrivacyConfig.model_validate({"epsilon": epsilon, "delta": 1e-5})
    request = DataRequest(data=config, on="validation", seed=seed)
    parts = (privacy, EngineConfig(), dataset, made)
    mine = Experiment.build(KernelRank, KernelRankConfig(), *parts, request=request, noise_seed=seed)
    floor = popularity(*parts, request=request, noise_seed=seed + BASELINE)
    return Pair(ranks(mine.counterfactual(), made), ranks(floor, made))


def behind(pairs: list[Pair]) -> dict[str, float]:
    """By how many standard errors kernel-rank lies below popularity, by metric; negative where it lies above."""
    found = {}
    for protocol in pairs[0].own.protocols:
        for metric in ("hr@10", "ndcg@10"):
            parts = [user_values(p.floor, metric, protocol) - user_values(p.own, metric, protocol) for p in pairs]
            each = np.concatenate(parts)
            error = max(float(each.std()) / len(each) ** 0.5, 1 / len(each))
            found[f"{protocol} {metric}"] = float(each.mean()) / error
    return found


def check(data: dict[str, Any], epsilon: float | str, seeds: int = 1, folder: Path | None = None) -> None:
    found = behind([compared(data, epsilon, seed, folder) for seed in range(seeds)])
    below = {metric: round(by, 1) for metric, by in found.items() if by > ERRORS}
    assert not below, f"below popularity by so many standard errors: {below}"


def shapes() -> list[Any]:
    """Every shape; one is a known fault."""
    reason = "two or three events a user: what weights cost the popularity release is not yet won back"
    return [pytest.param(n, marks=pytest.mark.xfail(reason=reason)) if n == "cold-users" else n for n in SHAPES]


@pytest.mark.parametrize("shape", shapes())
def test_generated_shapes(shape: str) -> None:
    check({"name": shape}, 3.0)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("shape", shapes())
def test_generated_shapes_at_every_epsilon(shape: str, epsilon: float | str) -> None:
    check({"name": shape}, epsilon, seeds=3)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("name", DATASETS)
def test_real_logs_at_every_epsilon(name: str, epsilon: float | str, data_dir: Path) -> None:
    paths = {key: data_dir / value for key, value in DATASETS[name].items() if key in ("path", "catalogue")}
    check(DATASETS[name] | paths, epsilon, folder=data_dir)


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
