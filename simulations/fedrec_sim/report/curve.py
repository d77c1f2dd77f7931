"""What a simulation notes of a round beside its cost: points of the training curve, and private looks."""

import math
from typing import Any

import numpy as np
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.splits import Split
from fedrec.draws import keys, uniform
from fedrec.evaluation.private import private_figures
from fedrec.evaluation.report import evaluate
from fedrec.run.scenario import EvaluationConfig

_STREAM = 0xC0


class Curve:
    """Called after each round with its number and the shared state; returns what `history.csv` tells of it.

    True metrics of a fixed sample of users, every few rounds and after the last, under "full ..." and
    "sampled-99 ...": they reach no decision. The values of a private look, with the standard deviation of their noise,
    under "private ...".
    """

    def __init__(self, algorithm: Algorithm, split: Split, config: EvaluationConfig, device: str, seed: int) -> None:
        self.algorithm, self.split, self.device, self.seed = algorithm, split, device, seed
        self.every = curve_every(config.every, algorithm.rounds)
        self.users = curve_users(split, config.curve_users, seed)

    def __call__(self, round: int, shared: Shared) -> dict[str, float]:
        return self._true(round, shared) | private_figures(self.algorithm, round, shared)

    def _true(self, round: int, shared: Shared) -> dict[str, float]:
        if not self.every or ((round + 1) % self.every and round + 1 != self.algorithm.rounds):
            return {}
        model = self.algorithm.release(shared)
        result: Any = evaluate(model, self.split, device=self.device, seed=self.seed, users=self.users)
        return {
            f"{protocol} {metric}": result[protocol][metric]
            for protocol in ("full", "sampled-99")
            if protocol in result
            for metric in ("hr@10", "ndcg@10")
        }


def curve_users(split: Split, count: int, seed: int) -> np.ndarray:
    """A fixed sample of at most `count` users with a target, drawn from the public seed, positions ascending."""
    able = np.flatnonzero(split.targets >= 0)
    order = uniform(keys(seed, torch.from_numpy(able)), _STREAM, 1)[:, 0].argsort().numpy()
    return np.sort(able[order[:count]])


def curve_every(every: int | None, rounds: int) -> int:
    """Rounds between points of the curve; 0 for none. `every` None: about eight points, none for a single round."""
    if every is not None:
        return every
    return math.ceil(rounds / 8) if rounds > 1 else 0
