"""The training curve of a simulation, and its private looks."""

import math
from typing import Any

import numpy as np
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.splits import Split
from fedrec.draws import keys, uniform
from fedrec.evaluation.private import private_figures
from fedrec.evaluation.report import evaluate
from fedrec.federation.adaptive_clipping import clip_figures
from fedrec.run.scenario import EvaluationConfig

_STREAM = 0xC0


class Curve:
    """Figures of a round for `history.csv`; called after each round with its number and the shared state.

    True metrics of a fixed sample of users have the prefixes "full" and "sampled-99". They are measured every few
    rounds and after the last, and decide nothing. Values of a private look, with the standard deviation of their
    noise, have the prefix "private". Adaptive clips, which are public, have the prefix "clip".
    """

    def __init__(self, algorithm: Algorithm, split: Split, config: EvaluationConfig, device: str, seed: int) -> None:
        self.algorithm, self.split, self.device, self.seed = algorithm, split, device, seed
        self.every = curve_every(config.every, algorithm.rounds)
        self.users = curve_users(split, config.curve_users, seed)

    def __call__(self, round_index: int, shared: Shared) -> dict[str, float]:
        private = private_figures(self.algorithm, round_index, shared)
        return self._true(round_index, shared) | private | clip_figures(self.algorithm, shared)

    def _true(self, round_index: int, shared: Shared) -> dict[str, float]:
        if not self.every or ((round_index + 1) % self.every and round_index + 1 != self.algorithm.rounds):
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
    """Draw a fixed sample of at most `count` users with a target from the public seed, positions ascending."""
    able = np.flatnonzero(split.targets >= 0)
    order = uniform(keys(seed, torch.from_numpy(able)), _STREAM, 1)[:, 0].argsort().numpy()
    return np.sort(able[order[:count]])


def curve_every(every: int | None, rounds: int) -> int:
    """Return the rounds between points of the curve; 0 for none. None gives about eight points, none for one round."""
    if every is not None:
        return every
    return math.ceil(rounds / 8) if rounds > 1 else 0
