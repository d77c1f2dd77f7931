"""A federation in one process: batches of users as tensor programs on CPU or CUDA.

The users' computation is that of any place that hosts users (`fedrec.federation.hosted`); what is added here is the
plan, which draws the cohorts and adds the noise once, on the total.

Float sums depend on how they are grouped, by less than a millionth; under noise, which is rounded to a grid, that may
move an entry by a step of the grid. So users can be summed in the groups that the nodes of a deployment would have: the
two then end with equal bits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.errors import PrivacyError
from fedrec.federation.hosted import HostedUsers, Shard, Stopwatch, UserSource, add_up, shard
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import PrivateSum


class InProcessFederation(HostedUsers):
    """All users of `source` in this process.

    plan: draws the cohorts. nodes: into how many shards the users are grouped. bounds: those of `HostedUsers`.
    """

    def __init__(self, source: UserSource, plan: PrivacyPlan, *, seed: int, nodes: int = 1, **bounds: Any) -> None:
        super().__init__(source, seed=seed, **bounds)
        self.plan = plan
        self._shards = [shard(len(source), place, nodes) for place in range(nodes)]
        self._places = [self] if nodes == 1 else [self._place(users, nodes) for users in self._shards]
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
        parts = self._split(cohort)
        found = [
            place.clipped_sums(algorithm, shared, round, part, plan.clip, watch)
            for place, part in zip(self._places, parts, strict=True)
        ]
        sums = {}
        for query in algorithm.queries(round):
            total = add_up([part.pop(query.name) for part in found], query.shape, self.device)
            watch.lap("sum")
            sums[query.name] = plan.privatise(round, query, total)
            watch.lap("noise")
        self.timings = watch.seconds
        return sums

    def _place(self, users: np.ndarray, nodes: int) -> HostedUsers:
        return HostedUsers(
            Shard(self.source, users),
            seed=self.seed,
            device=self.device,
            batch_users=self.batch_users,
            batch_events=self.batch_events,
            memory_bytes=self.memory_bytes // nodes,
            precision=self.precision,
        )

    def _split(self, cohort: np.ndarray) -> list[np.ndarray]:
        """The cohort by shard, as positions within it."""
        if len(self._places) == 1:
            return [cohort]
        firsts = [int(users[0]) if len(users) else self.users for users in self._shards]
        bounds = np.searchsorted(cohort, [*firsts, self.users])
        return [cohort[bounds[n] : bounds[n + 1]] - first for n, first in enumerate(firsts)]
