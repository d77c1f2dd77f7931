"""The privacy settings of a scenario, checked before anything is computed from them."""

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fedrec.errors import InputError, nearest
from fedrec.privacy import accounting
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.privacy.shares import Shares, largest_mu
from fedrec.settings import Settings

LARGEST_EPSILON = 100.0
"""At this epsilon an attacker's odds may grow by e^100; accountants lose their precision above."""


TRUST_MODELS = ("central", "distributed", "local")
DISTRIBUTED = {"dropout", "colluding", "bits", "aggregator", "noise_by"}
"""Settings of trust model `distributed` alone."""
TWO_PARTIES = "distributed"
"""Trust model with a helper."""
FEWEST_NODES = 3
"""Fewest nodes of a secure sum."""


class PrivacyConfig(Settings):
    """The [privacy] table of a scenario."""

    epsilon: float | Literal["none"] = 1.0
    """Target of all releases of the run together; "none" clips nothing, adds no noise, and guarantees nothing."""
    delta: float = 1e-5
    """Above 0 and below 1 / users."""
    trust: Literal["central", "distributed", "local"] = "central"
    """Who adds the noise: central = the server, after the sum (it is trusted with the un-noised sums); distributed =
    each user a share, under secure aggregation (the server sees the noisy sum alone); local = each user all of it."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Trust distributed: part of a cohort that may be missing. Beyond it, a round is void and charged."""
    colluding: float = Field(default=0.05, ge=0, lt=1)
    """Trust distributed: part of a cohort that may show the server their noise shares, at least one user; epsilon
    holds even so."""
    bits: int | None = Field(default=None, ge=8, le=40)
    """Trust distributed: bits of each number that a user sends; by default the fewest that cost 0.5 % more noise."""
    aggregator: Literal["peers", "helper"] = "peers"
    """Trust distributed: who keeps the masks: the users among themselves, or a second party that does not collude."""
    noise_by: Literal["users", "aggregators"] = "users"
    """Trust distributed: who adds the noise: users = each a share; aggregators = server and helper each all of it, so
    that epsilon holds against either of them, with users of any number. The model has twice the variance then."""
    sampling: float = Field(default=1.0, gt=0, le=1)
    """Probability of each user to take part in a round (Poisson sampling); 1 = everybody, always."""
    participation: Literal["known", "hidden"] = "known"
    """Trust distributed, local, with sampling: known = the server asks a cohort; hidden = it asks everybody, and each
    device's secret coin decides between its contribution and zeros. Sampling then lowers epsilon against it, too."""
    noise: Literal["independent", "banded"] = "independent"
    """Of different rounds: independent = each round's on its own; banded = correlated, so that it cancels in part where
    releases add up. Then nobody is sampled: each user takes part in one of every `separation` rounds."""
    separation: int | None = Field(default=None, ge=1, le=10_000)
    """Noise banded: rounds from one participation of a user to the next. Devices enforce it."""
    evaluation_share: float = Field(default=0.0, ge=0, lt=1)
    """Part of the budget for private metrics: one look at the end, or several with `stopping.every`; 0 = none."""
    clipping: ClippingConfig = Field(default_factory=ClippingConfig)
    """Whether the clips of sums of several rounds adapt."""
    row_cap: float | None = Field(default=None, gt=0, le=1)
    """Largest norm of one item's row of a user's contribution, in clips: against users who push an item. No cap if left
    out."""
    budget: str | None = None
    """File of a budget that this run shares with others on the same people; see `fedrec audit budget --help`."""

    @model_validator(mode="before")
    @classmethod
    def _two_parties(cls, values: Any) -> Any:
        """Noise of both aggregators needs the second one: it is named where the settings do not."""
        if isinstance(values, dict) and values.get("noise_by") == "aggregators" and values.get("trust") == TWO_PARTIES:
            return {"aggregator": "helper", **values}
        return values

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
        if value not in TRUST_MODELS:
            raise ValueError(f"unknown trust model.{nearest(str(value), TRUST_MODELS)}")
        return value

    @model_validator(mode="after")
    def _proven(self) -> "PrivacyConfig":
        idle = sorted(DISTRIBUTED & self.model_fields_set)
        if self.trust != "distributed" and idle:
            raise ValueError(f"privacy.{idle[0]} is for privacy.trust = distributed; leave it out")
        if self.noise_by == "aggregators":
            self._added_by_aggregators()
        if self.clipping.adaptive and not self.private:
            raise ValueError("privacy.clipping.adaptive needs an epsilon: without privacy nothing is clipped")
        if self.row_cap is not None and not self.private:
            raise ValueError("privacy.row_cap is a part of the clip, and needs an epsilon: else nothing is clipped")
        if self.row_cap is not None and self.clipping.adaptive:
            raise ValueError("privacy.row_cap is for clips that stay; leave privacy.clipping.adaptive out")
        if (self.noise == "banded") != (self.separation is not None):
            raise ValueError(
                "privacy.noise = 'banded' and privacy.separation, rounds between two participations of a user, belong "
                "together; set both or neither"
            )
        if self.noise == "banded":
            self._correlated()
        if self.trust != "central" and not self.private:
            raise ValueError(f"trust '{self.trust}' needs an epsilon: without noise there is nothing to share out")
        if self.hidden and self.trust == "central":
            raise ValueError(
                "privacy.participation = hidden needs noise that the users add: the server of trust model central sees "
                "which sums are zero; set privacy.trust = distributed or local"
            )
        if self.hidden and self.sampling == 1:
            raise ValueError("privacy.participation = hidden is for sampled users; set privacy.sampling below 1")
        if self.trust != "central" and self.budget is not None:
            raise ValueError(
                f"a shared budget prices Gaussian noise alone, and trust '{self.trust}' adds Skellam noise; leave "
                "privacy.budget out, or set privacy.trust = central"
            )
        return self

    def _added_by_aggregators(self) -> None:
        if self.aggregator != "helper":
            raise ValueError(
                "privacy.noise_by = 'aggregators' needs two that do not collude, server and helper; set "
                "privacy.aggregator = 'helper', or leave both out"
            )
        if self.hidden:
            raise ValueError(
                "privacy.participation = hidden is proven for noise that the users add; set privacy.noise_by = 'users'"
            )
        if "colluding" in self.model_fields_set:
            raise ValueError(
                "privacy.colluding is about noise that users add: with privacy.noise_by = 'aggregators' epsilon holds "
                "whatever users collude; leave it out"
            )

    def _correlated(self) -> None:
        if self.trust != "central":
            raise ValueError(
                f"privacy.noise = 'banded' is proven for privacy.trust = central alone: in '{self.trust}' users add "
                "the noise, and nobody can correlate theirs; set privacy.noise = 'independent'"
            )
        if not self.private:
            raise ValueError("privacy.noise = 'banded' needs an epsilon: without one there is no noise")
        if self.clipping.adaptive:
            raise ValueError(
                "privacy.noise = 'banded' is proven for clips that stay; leave privacy.clipping.adaptive out"
            )
        if self.sampling != 1:
            raise ValueError(
                "privacy.sampling draws users afresh each round, and privacy.noise = 'banded' needs them apart: "
                "privacy.separation says how often each takes part; leave privacy.sampling out"
            )

    def resolved(self) -> dict[str, Any]:
        """Return every setting that has a value and belongs to the trust model, JSON-able."""
        left_out = set() if self.trust == "distributed" else set(DISTRIBUTED)
        left_out |= {"colluding"} if self.noise_by == "aggregators" else {"noise_by"}
        left_out |= set() if self.hidden else {"participation"}
        left_out |= set() if self.clipping.adaptive else {"clipping"}  # the rest of the table has no effect then
        left_out |= set() if self.noise == "banded" else {"noise"}  # the text of older runs lacks it
        return self.model_dump(mode="json", exclude_none=True, exclude=left_out)

    @property
    def accountant(self) -> str:
        """The accountant that the target holds by: "pld", or "rdp" where no other is proven."""
        return "pld" if self.trust == "central" else "rdp"

    @property
    def hidden(self) -> bool:
        """Whether each user's own secret coin decides if it contributes."""
        return self.participation == "hidden"

    @property
    def asked(self) -> float:
        """Part of the users who are asked in a round, and add noise where users do."""
        return 1.0 if self.hidden else self.sampling

    @property
    def cohort_share(self) -> float:
        """Part of the population that is expected to contribute in a round."""
        return self.sampling / (self.separation or 1)

    @property
    def helped(self) -> bool:
        """Whether a helper keeps the masks of secure sums."""
        return self.trust == "distributed" and self.aggregator == "helper"

    @property
    def private(self) -> bool:
        """Return whether there is any guarantee."""
        return self.epsilon != "none"

    def mu(self, users: int) -> float:
        """Compute the total signal-to-noise of all releases (Gaussian DP), which is known before any query is.

        Infinite without privacy. By Renyi DP where users add the noise, and less by what they add beyond the counted
        noise: in `local` every user adds all of it. As if everybody contributed, also where users are sampled.

        Args:
            users: the public size of the population.
        """
        if self.epsilon == "none":
            return math.inf
        if self.trust == "central":
            return accounting.gaussian_mu(self.epsilon, self.delta)
        shares = self.shares(users)
        return largest_mu(self.epsilon, self.delta) * math.sqrt(shares.counted / shares.present(shares.expected))

    def shares(self, users: int) -> Shares:
        """Return the numbers of noise shares of trust models `distributed` and `local`.

        Args:
            users: the public size of the population.

        Raises: PrivacyError where the stated dropout and collusion leave no honest user.
        """
        return Shares.of(
            users,
            self.sampling,
            self.dropout,
            self.colluding,
            local=self.trust == "local",
            hidden=self.hidden,
            by_aggregators=self.noise_by == "aggregators",
        )


def check_over_nodes(config: PrivacyConfig, nodes: int, seed: int | None, where: str, *, helper: bool = False) -> None:
    """Refuse settings that are not offered between server and nodes.

    Args:
        config: the privacy settings.
        nodes: nodes of the run.
        seed: the run's, from which a simulation draws all noise; None for none.
        where: what runs, for the message.
        helper: whether there is a helper that can keep the masks.

    Raises: InputError.
    """
    if config.trust == "central":
        return
    if seed is not None:
        raise InputError(f"{where}: in trust model {config.trust} each node draws its own noise; leave the seed out")
    if config.helped and not helper:
        raise InputError(
            f"{where}: privacy.aggregator = helper needs a helper; start the server with --helper and --helper-key "
            "(see `fedrec helper --help`), or leave the setting out"
        )
    if config.trust == "distributed" and nodes < FEWEST_NODES:
        raise InputError(
            f"{where}: trust model distributed needs at least {FEWEST_NODES} nodes, since each of two learns the "
            "other's sum; raise engine.nodes"
        )
