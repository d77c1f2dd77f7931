"""Where the users are: the one thing that differs between a simulation and a deployment."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import PrivateSum


class Federation(Protocol):
    """Users who can be asked for private sums.

    users: size of the population, publicly given. timings: seconds spent in each phase of the last round.
    """

    timings: Mapping[str, float]

    @property
    def users(self) -> int:
        """Size of the population."""
        ...

    def sample(self, round: int) -> np.ndarray:
        """The cohort of a round, positions (cohort,) int64. Who it is stays secret; the plan draws it."""
        ...

    def private_sum(
        self, algorithm: Algorithm, shared: Shared, round: int, cohort: np.ndarray, plan: PrivacyPlan
    ) -> dict[str, PrivateSum]:
        """Each query of the round: the sum of the cohort's clipped contributions, with the plan's noise."""
        ...
