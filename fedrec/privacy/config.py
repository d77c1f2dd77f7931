"""The privacy settings of a scenario, checked before anything is computed from them."""

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from fedrec.errors import nearest
from fedrec.privacy import accounting
from fedrec.settings import Settings

LARGEST_EPSILON = 100.0
"""At this epsilon an attacker's odds may grow by e^100; accountants lose their precision above."""


class PrivacyConfig(Settings):
    """The [privacy] table of a scenario."""

    epsilon: float | Literal["none"] = 1.0
    """Target of all releases of the run together; "none" clips nothing, adds no noise, and guarantees nothing."""
    delta: float = 1e-5
    """Above 0 and below 1 / users."""
    trust: Literal["central"] = "central"
    """Who adds the noise: central = the server, after the sum (it is trusted with the un-noised sums)."""
    sampling: float = Field(default=1.0, gt=0, le=1)
    """Probability of each user to take part in a round (Poisson sampling); 1 = everybody, always."""
    evaluation_share: float = Field(default=0.0, ge=0, lt=1)
    """Part of the budget for private metrics: one look at the end, or several with `stopping.every`; 0 = none."""
    budget: str | None = None
    """File of a budget that this run shares with others on the same people; see `fedrec audit budget --help`."""

    @field_validator("epsilon", mode="before")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value == "none" or (number and 0 < value < math.inf):
            return value
        raise ValueError('must be a number above 0, or "none" for a run without any guarantee')

    @field_validator("delta")
    @classmethod
    def _small(cls, value: float) -> float:
        if not 0 < value < 1:
            raise ValueError("must be above 0 and below 1 / users, e.g. 1e-5: Gaussian noise gives no guarantee at 0")
        return value

    @field_validator("epsilon")
    @classmethod
    def _meaningful(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > LARGEST_EPSILON:
            raise ValueError(f'above {LARGEST_EPSILON:g} an epsilon promises nothing; choose less, or say "none"')
        return value

    @field_validator("trust", mode="before")
    @classmethod
    def _offered(cls, value: Any) -> Any:
        if value in ("distributed", "local"):
            raise ValueError("this trust model is not offered yet; use 'central'")
        if value != "central":
            raise ValueError(f"unknown trust model.{nearest(str(value), ['central', 'distributed', 'local'])}")
        return value

    @property
    def private(self) -> bool:
        """Return whether there is any guarantee."""
        return self.epsilon != "none"

    def mu(self) -> float:
        """Compute the total signal-to-noise of all releases (Gaussian DP), which is known before any query is.

        Infinite without privacy.
        """
        return math.inf if self.epsilon == "none" else accounting.gaussian_mu(self.epsilon, self.delta)
