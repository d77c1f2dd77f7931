"""A federation in one process: batches of users as tensor programs on CPU or CUDA.

The users' computation is that of any place that hosts users (`fedrec.federation.hosted`); what is added here is the
plan, which draws the cohorts and adds the noise once, on the total. Sums are exact, so a deployment ends with the same
bits, however many nodes its users are spread over.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.errors import PrivacyError
from fedrec.federation.hosted import HostedUsers, Stopwatch, UserSource
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import PrivateSum


class InProcessFederation(HostedUsers):
    """All users of `source` in this process.

    plan: draws the cohorts. bounds: those of `HostedUsers`.
    """

    def __init__(self, source: UserSource, plan: PrivacyPlan, *, seed: int, **bounds: Any) -> None:
        super().__init__(source, seed=seed, **bounds)
        self.plan = plan
        self.timings: Mapping[str, float] = {}

    def sample(self, round: int) -> np.ndarray:
        """The cohort of a round, positions (cohort,) int64, drawn by the plan."""
        return self.plan.sample(round)

    def private_sum(
        self, algorithm: Algorithm, shared: Shared, round: int, cohort: np.ndarray, plan: PrivacyPlan
    ) -> dict[str, PrivateSum]:
        """Each query of the round over the cohort: contribute, clip, sum, then noise once on the total.

        Raises: PrivacyError when `plan` is not the one that draws the cohorts (another sampling has another price), or
        the cohort is not ascending.
        """
        if plan is not self.plan:
            raise PrivacyError(f"round {round}: the federation samples by another plan; make both with the same one")
        watch = Stopwatch(self.device)
        totals = self.clipped_sums(algorithm, shared, round, cohort, plan.clip, watch)
        sums = {}
        for query in algorithm.queries(round):
            sums[query.name] = plan.privatise(round, query, totals.pop(query.name))
            watch.lap("noise")
        self.timings = watch.seconds
        return sums
