"""Where the users are: the one thing that differs between a simulation and a deployment."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.privacy.plan import PrivacyPlan
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
    """Users who can be asked for clipped sums. It neither samples nor adds noise: the coordinator does both.

    plan: the plan whose clips bound each user. timings: seconds spent in each phase of the last round.
    """

    plan: PrivacyPlan
    timings: Mapping[str, float]

    @property
    def users(self) -> int:
        """Size of the population."""
        ...

    def clipped_sums(
        self, algorithm: Algorithm, shared: Shared, round_index: int, cohort: np.ndarray
    ) -> dict[str, Tensor]:
        """Each query of the round: the exact sum of the cohort's clipped contributions, WITHOUT noise.

        Args:
            shared: the public state before the round.
            cohort: positions (cohort,) int64 of the users who take part, ascending. Who they are stays secret.
        Returns: int64 totals by the query's name, of the query's shape, in steps of the plan's lattice.
        Raises: PrivacyError when the cohort is not ascending.
        """
        ...
