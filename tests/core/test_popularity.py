import torch

from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from tests.core.algorithm_contract import AlgorithmContract


class TestPopularity(AlgorithmContract):
    learns_taste = False

    def make(self, setting: Setting) -> Algorithm:
        return Popularity(PopularityConfig(), setting)
