"""Where the users are: the one thing that differs between a simulation and a deployment."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from pydantic import Field

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import PrivateSum
from fedrec.settings import Settings
from fedrec.wire import Precision


class FederationConfig(Settings):
    """The `[federation]` table of a scenario: how the server deals with nodes."""

    min_nodes: int | None = Field(default=None, ge=1)
    """Nodes that must answer for a round to count; all of them if left out. The others' users then add nothing."""
    deadline: float = Field(default=600.0, gt=0)
    """Seconds after which a round goes on with those who have answered."""
    patience: float = Field(default=600.0, gt=0)
    """Seconds to wait for nodes before the first round, and for the minimum of them in any round, before stopping."""
    download: Precision = "float32"
    """In what precision nodes get the shared model; see `fedrec.wire` for the error of each."""


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
