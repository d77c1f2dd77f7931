"""Comparison of `kernel-rank` with DP popularity at the same epsilon, on generated logs and on real ones.

The comparison is paired over users: the difference of their metrics, and its standard error. Seeds, which draw
generated logs anew, add users. The whole grid takes hours, so it is a program, and the tests run a part of it:

    python -m tests.simulation.below_popularity --data-dir DATA [--only citeulike,few-items] [--seeds 3]

It prints a line a comparison and ends with 1 where one lies below popularity by more than noise.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_sim.engines.setup import SimulationSetup, popularity

from fedrec.algorithms.kernel_rank import KernelRank, KernelRankConfig
from fedrec.data.datasets import DataConfig, load
from fedrec.data.shapes import SHAPES
from fedrec.data.splits import split
from fedrec.evaluation.ranking import Ranks, ranks
from fedrec.evaluation.significance import user_values
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.scenario import EngineConfig

ERRORS = 3.0
"""Standard errors that kernel-rank may be below popularity: for equal models, one of 700 comparisons exceeds it."""
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
    """Both methods on the validation split, with one draw of noise, so that luck of a draw favours neither."""
    config = DataConfig.model_validate(data)
    dataset = load(config, folder, seed)
    made = split(dataset, config.split, "validation", seed)
    privacy = PrivacyConfig.model_validate({"epsilon": epsilon, "delta": 1e-5})
    request = DataRequest(data=config, on="validation", seed=seed)
    parts = (privacy, EngineConfig(), dataset, made)
    mine = SimulationSetup.build(KernelRank, KernelRankConfig(), *parts, request=request, noise_seed=seed)
    floor = popularity(*parts, request=request, noise_seed=seed)
    return Pair(ranks(mine.counterfactual(), made), ranks(floor, made))


@dataclass(frozen=True)
class Gap:
    """What one metric says about kernel-rank and popularity: means over users, their difference and its error."""

    own: float
    floor: float
    error: float

    @property
    def difference(self) -> float:
        """Kernel-rank minus popularity."""
        return self.own - self.floor

    @property
    def behind(self) -> float:
        """Standard errors by which kernel-rank is below popularity; negative if it is above."""
        return -self.difference / self.error


def gaps(pairs: list[Pair]) -> dict[str, Gap]:
    """Compare both methods over the users of all pairs, by metric."""
    found = {}
    for protocol in pairs[0].own.protocols:
        for metric in ("hr@10", "ndcg@10"):
            own = np.concatenate([user_values(p.own, metric, protocol) for p in pairs])
            floor = np.concatenate([user_values(p.floor, metric, protocol) for p in pairs])
            error = max(float((own - floor).std()) / len(own) ** 0.5, 1 / len(own))
            found[f"{protocol} {metric}"] = Gap(float(own.mean()), float(floor.mean()), error)
    return found


def behind(pairs: list[Pair]) -> dict[str, float]:
    """Return the standard errors by which kernel-rank is below popularity, by metric; negative if it is above."""
    return {metric: gap.behind for metric, gap in gaps(pairs).items()}


def below(found: dict[str, float]) -> dict[str, float]:
    """Return the metrics in which kernel-rank is below popularity by more than noise."""
    return {metric: round(by, 1) for metric, by in found.items() if by > ERRORS}


def real(name: str, folder: Path) -> dict[str, Any]:
    """The data settings of a dataset in `folder`."""
    paths = {key: folder / value for key, value in DATASETS[name].items() if key in ("path", "catalogue")}
    return DATASETS[name] | paths


def main() -> int:
    """Run the grid. Returns the exit code."""
    parser = argparse.ArgumentParser(description="kernel-rank against DP popularity, on the validation split")
    parser.add_argument("--data-dir", type=Path, help="folder of the real datasets; without it, generated logs alone")
    parser.add_argument("--only", help="names of logs, separated by commas", default="")
    parser.add_argument("--epsilons", help="separated by commas", default=",".join(map(str, EPSILONS)))
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    logs = {name: {"name": name} for name in SHAPES}
    if options.data_dir is not None:
        logs |= {name: real(name, options.data_dir.resolve()) for name in DATASETS}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    failed = False
    for name in options.only.split(",") if options.only else logs:
        for text in options.epsilons.split(","):
            epsilon: float | str = text if text == "none" else float(text)
            start = time.perf_counter()
            pairs = [compared(logs[name], epsilon, seed, options.data_dir) for seed in seeds]
            lost = below(behind(pairs))
            failed |= bool(lost)
            print(
                f"{name} epsilon {epsilon} seeds {seeds.start}-{seeds.stop - 1} ({time.perf_counter() - start:.0f} s)"
            )
            for metric, gap in gaps(pairs).items():
                row = f"{gap.own:.4f} popularity {gap.floor:.4f} difference {gap.difference:+.4f} se {gap.error:.4f}"
                word = "  BELOW" if metric in lost else ""
                print(f"    {metric:16} {row} ({-gap.behind:+.1f} errors){word}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
