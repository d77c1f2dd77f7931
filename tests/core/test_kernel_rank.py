import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedrec import draws
from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.kernel_rank import SHARES, KernelRank, KernelRankConfig, default_shares
from fedrec.data.catalogue import Catalogue
from fedrec.data.users import UserBatch
from fedrec.kernels.model import head
from tests.core.algorithm_contract import ITEMS, USERS, AlgorithmContract, batch_of, close, edge_rows, planted_rows


def small(**changes: object) -> KernelRankConfig:
    """Few features and few rounds: what a test needs of the defaults."""
    base = {"decays": (1.0, 0.5), "kernel_rank": 8, "head": 24, "targets": 2, "negatives": 8, "weight_rounds": 4}
    return KernelRankConfig.model_validate(base | changes)


class TestKernelRank(AlgorithmContract):
    def make(self, setting: Setting) -> Algorithm:
        return KernelRank(small(), setting)


class TestWithNetwork(AlgorithmContract):
    def make(self, setting: Setting) -> Algorithm:
        return KernelRank(small(hidden=4), setting)


class TestWithoutCooccurrence(AlgorithmContract):
    def make(self, setting: Setting) -> Algorithm:
        return KernelRank(small(cooccurrence=False), setting)


class TestWithoutMetadata(AlgorithmContract):
    """Co-occurrence and popularity are all that is left."""

    def make(self, setting: Setting) -> Algorithm:
        return KernelRank(small(head=ITEMS), setting)

    def setting(self, **changes: object) -> Setting:
        return super().setting(**{"catalogue": Catalogue(tuple(f"item-{i}" for i in range(ITEMS)))} | changes)
