"""RunSpec: what a node must know of a run to compute what the server will ask for, as one small public text.

Server and node each build the algorithm from it, so both price, clip and sum by the same queries. It names no user, no
noise and no secret: the seed here is the public one. Only in a run with a seed of its own, where everything repeats and
nobody is protected, does the noise come from the same number.
"""

import json
import math
from typing import Any, Literal

import torch
from pydantic import Field

from fedrec.algorithms.base import Algorithm, ItemStart, PublicFacts
from fedrec.algorithms.discover import algorithm
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.federation.adaptive_clipping import AdaptiveClipping
from fedrec.federation.row_cap import RowCapConfig, RowCapped
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.settings import Settings, parse
from fedrec.wire import fingerprint


class UsersNoise(Settings):
    """The settings from which server and node derive the same integers and noise shares, where users add the noise."""

    trust: Literal["distributed", "local"]
    epsilon: float
    delta: float
    sampling: float
    """Probability of each user to take part in a round."""
    participation: Literal["hidden"] | None = None
    """Whether each device's secret coin decides if its user contributes; None where the server asks a cohort."""
    dropout: float | None = None
    colluding: float | None = None
    bits: int | None = None
    noise_by: Literal["aggregators"] | None = None
    """Whether server and helper add the noise; None where users do."""


class RunSpec(Settings):
    """The public description of a run."""

    algorithm: str
    """Its name."""
    settings: dict[str, Any]
    """The algorithm's own settings, JSON-able."""
    data: str = ""
    """Which data the run is about: the text of a `DataRequest`."""
    catalogue: str
    """Digest of the catalogue that all sides must hold."""
    users: int = Field(ge=1)
    """Size of the whole population."""
    expected_cohort: float = Field(gt=0)
    """The fixed denominator of every average."""
    mu: float | None = None
    """Total signal-to-noise of all releases; None without privacy, and then nothing is clipped."""
    evaluation_share: float = Field(default=0.0, ge=0, lt=1)
    """Part of the budget for private looks at the metrics."""
    stopping: StoppingConfig = Field(default_factory=StoppingConfig)
    """When they are taken, and what follows from them."""
    seed: int
    """Public randomness: initial values, local negatives."""
    noise: UsersNoise | None = None
    """Of trust models `distributed` and `local`; None where the server adds the noise."""
    clipping: ClippingConfig | None = None
    """How clips adapt; None where they are fixed."""
    row_cap: float | None = Field(default=None, gt=0, le=1)
    """Largest norm of an item's row of a user's part, in clips; None for no cap."""

    @property
    def private(self) -> bool:
        """Whether contributions are clipped."""
        return self.mu is not None

    def text(self) -> str:
        """The description as one JSON text, the same for the same run; `parse_spec` reads it."""
        values = self.model_dump(mode="json")
        for name in (
            "noise",
            "clipping",
            "row_cap",
        ):  # so that the fingerprint of a run without them is that of older versions
            if values[name] is None:
                del values[name]
        for name in ("participation", "noise_by"):  # the same for runs whose cohort is known and whose users add noise
            if self.noise is not None and values["noise"][name] is None:
                del values["noise"][name]
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @property
    def trust(self) -> str:
        """The trust model: "none" without privacy."""
        if not self.private:
            return "none"
        return "central" if self.noise is None else self.noise.trust

    @property
    def fingerprint(self) -> str:
        """The fingerprint that every message of the run carries."""
        return fingerprint(self.text())

    def build(
        self,
        catalogue: Catalogue,
        device: torch.device | str = "cpu",
        kind: type[Algorithm] | None = None,
        start: ItemStart | None = None,
    ) -> Algorithm:
        """The algorithm of the run.

        Args:
            catalogue: the items that this side holds.
            device: where it computes.
            kind: the class, where the caller has it; else the built-in or installed one of that name. The description
                itself never names a module.
            start: item vectors of another run, which the server's first state starts from. Nodes get that state.

        Raises: InputError when the catalogue is another, or the settings do not fit; PluginRefused for a plug-in that
            this process does not allow.
        """
        if catalogue.digest != self.catalogue:
            raise InputError("the catalogue is not that of the run; give server and nodes the same file of items")
        kind = algorithm(self.algorithm) if kind is None else kind
        facts = PublicFacts(
            catalogue=catalogue,
            users=self.users,
            expected_cohort=self.expected_cohort,
            mu=math.inf if self.mu is None else self.mu,
            seed=self.seed,
            device=torch.device(device),
            start=start,
        )
        made = kind(parse(kind.Config, self.settings, f"the run's settings of '{self.algorithm}'"), facts)
        if self.row_cap is not None:
            made = RowCapped(made, RowCapConfig(cap=self.row_cap))
        if self.clipping is not None:
            made = AdaptiveClipping(made, self.clipping)
        if self.evaluation_share > 0:
            return PrivateEvaluation(made, PrivateEvaluationConfig(share=self.evaluation_share, stopping=self.stopping))
        return made


def parse_spec(text: str) -> RunSpec:
    """The inverse of `RunSpec.text`. Raises: InputError for anything else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("the description of the run is not JSON; install the same fedrec on both sides") from None
    if not isinstance(values, dict):
        raise InputError("the description of the run is no table; install the same fedrec on both sides")
    return parse(RunSpec, values, "the description of the run")
