"""The contract of every algorithm: shapes, users that never mix, true norms, awkward histories, determinism."""

from my_algorithm.recent_counts import RecentCounts, RecentCountsConfig

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.testing import AlgorithmContract


class TestRecentCounts(AlgorithmContract):
    """Inherits every test; `make` gives the algorithm a size that suits the toy users."""

    learns_taste = False  # it ranks alike for everybody

    def make(self, facts: PublicFacts) -> Algorithm:
        return RecentCounts(RecentCountsConfig(newest=7), facts)
