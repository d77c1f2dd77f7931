"""Where the users are: the one thing that differs between a simulation and a deployment."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.errors import FedrecError
from fedrec.privacy.plan import PrivacyPlan
from fedrec.settings import Settings
from fedrec.wire import Precision


class FederationConfig(Settings):
    """The `[federation]` table of a scenario: how the server deals with nodes."""

    min_nodes: int | None = Field(default=None, ge=1)
    """Nodes that must answer for a round to count; all of them if left out. The others' users then add nothing."""
    deadline: float = Field(default=600.0, gt=0)
    """Seconds after which a round continues with the nodes that have answered."""
    patience: float = Field(default=600.0, gt=0)
    """Seconds to wait for nodes before the first round, and for the minimum of them in any round, before stopping."""
    download: Precision = "float32"
    """Precision of the shared model that nodes download. `fedrec.wire` lists the error of each."""
    card_days: float | None = Field(default=None, gt=0, le=3650)
    """Days until the run card expires and nodes answer no more; 30 if left out."""
    witnesses: tuple[str, ...] | None = None
    """Public keys of ledger witnesses (ed25519:BASE64): one must cosign the run card before the first round."""


class RoundVoid(FedrecError):
    """A round that was charged and of which nothing was revealed. It may be tried again for a new charge."""

    exit_code = 5


class Federation(Protocol):
    """The users of a run, who answer with clipped sums.

    A federation neither samples nor adds noise: the coordinator does both.

    Attributes:
        plan: the plan whose clips bound each user.
        timings: seconds of each phase of the last round.
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
        """Return, for each query of the round, the exact sum of the clipped contributions, WITHOUT noise.

        Args:
            algorithm: the algorithm whose contributions are summed.
            shared: the public state before the round.
            round_index: position of the round, from 0.
            cohort: positions (cohort,) int64 of the participating users, ascending. They stay secret.
        Returns: int64 totals by the query's name, of the query's shape, in steps of the plan's lattice.
        Raises: PrivacyError when the cohort is not ascending; RoundVoid where too few took part in a secure sum.
        """
        ...
