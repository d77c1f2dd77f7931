"""A federation in one process: batches of users as tensor programs on CPU or CUDA.

The users' computation is the same as on a node (`fedrec.federation.hosted`), clipped by the plan. Sums are exact, so a
deployment gives the same bits with any number of nodes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.federation.hosted import HostedUsers, Stopwatch, UserSource
from fedrec.privacy.plan import PrivacyPlan


class InProcessFederation:
    """All users of `source` in this process.

    Args:
        source: the users' histories.
        plan: the plan that clips their contributions.
        seed: seed of the users' own randomness.
        bounds: bounds of `HostedUsers`.
    """

    def __init__(self, source: UserSource, plan: PrivacyPlan, *, seed: int, **bounds: Any) -> None:
        self.hosted = HostedUsers(source, seed=seed, **bounds)
        self.plan = plan
        self.timings: Mapping[str, float] = {}

    @property
    def users(self) -> int:
        """Size of the population."""
        return self.hosted.users

    def clipped_sums(
        self, algorithm: Algorithm, shared: Shared, round_index: int, cohort: np.ndarray
    ) -> dict[str, Tensor]:
        """Return each query of the round over the cohort, without noise: contribute, clip, sum; see `Federation`."""
        watch = Stopwatch(self.hosted.device)
        integers = self.plan.integers(self.hosted.seed)
        totals = self.hosted.clipped_sums(algorithm, shared, round_index, cohort, self.plan.clip, watch, integers)
        self.timings = watch.seconds
        return totals
