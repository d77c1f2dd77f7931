"""The contract, for every tower and for both forms of a contribution."""

from typing import Any

from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.tower_sgd import TowerSGD, TowerSGDConfig
from tests.core.algorithm_contract import AlgorithmContract


class TowerContract(AlgorithmContract):
    tower: dict[str, Any]
    settings: dict[str, Any] = {}

    def make(self, setting: Setting) -> Algorithm:
        config = {"rounds": 12, "targets": 2, "negatives": 6, "learning_rate": 0.05} | self.settings
        return TowerSGD(TowerSGDConfig(tower=self.tower, **config), setting)


class TestId(TowerContract):
    tower = {"name": "id", "dim": 8, "init_std": 1.0}


class TestContent(TowerContract):
    tower = {"name": "content", "dim": 6, "features": 8}


class TestHybrid(TowerContract):
    tower = {"name": "hybrid", "dim": 6, "features": 8, "hidden": 5, "id_scale": 0.5}
    settings = {"decay": 0.9, "hold_out": "next", "optimiser": "sgd", "solve_steps": 20, "averaged": 0.5}


class TestHybridLocalSteps(TowerContract):
    tower = {"name": "hybrid", "dim": 6, "features": 8, "hidden": 5}
    settings = {"local_steps": 3}
