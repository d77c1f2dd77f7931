"""RunSpec: what a node must know of a run to compute what the server will ask for, as one small public text.

Server and node each build the algorithm from it, so both price, clip and sum by the same queries. It names no user, no
noise and no secret: the seed here is the public one. Only in a run with a seed of its own, where everything repeats and
nobody is protected, does the noise come from the same number.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.discover import algorithm
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.privacy.queries import SumQuery
from fedrec.settings import Settings, parse
from fedrec.wire import fingerprint

SMALLEST_MU, LARGEST_MU = 1e-6, 20.0
"""Of a private run's releases together: an epsilon of about 1e-5 at the least, of more than 100 at the most."""

LARGEST_CLIP = 1e6
"""Beyond, a clip bounds nothing, and the noise that it asks for leaves nothing of a float32."""

MOST_NUMBERS = 1 << 28
"""In all sums of a round: a gigabyte in float32."""


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

    @property
    def private(self) -> bool:
        """Whether contributions are clipped."""
        return self.mu is not None

    def text(self) -> str:
        """The description as one JSON text, the same for the same run; `parse_spec` reads it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)

    def check_terms(self, users: int, queries: Sequence[SumQuery]) -> None:
        """What a node checks of the run's terms before it computes a round. users: how many it hosts.

        It bounds what a node can be made to compute. It does not make a sum private: the noise is the server's.
        Raises: InputError for terms that no honest run has.
        """
        if self.users < users or self.expected_cohort > self.users * (1 + 1e-9):
            raise InputError(f"the run is about {self.users} users, {self.expected_cohort:g} a round; {users} are here")
        if self.mu is not None and not SMALLEST_MU <= self.mu <= LARGEST_MU:
            raise InputError(f"the run's mu is {self.mu:g}; it must lie within {SMALLEST_MU:g} and {LARGEST_MU:g}")
        if sum(query.size for query in queries) > MOST_NUMBERS:
            raise InputError(f"the round asks for more than {MOST_NUMBERS} numbers")
        for query in queries:
            if self.private and query.clip_norm > LARGEST_CLIP:
                raise InputError(f"query '{query.name}': clip {query.clip_norm:g}, more than {LARGEST_CLIP:g}")

    @property
    def fingerprint(self) -> str:
        """The fingerprint that every message of the run carries."""
        return fingerprint(self.text())

    def build(
        self, catalogue: Catalogue, device: torch.device | str = "cpu", kind: type[Algorithm] | None = None
    ) -> Algorithm:
        """The algorithm of the run.

        Args:
            catalogue: the items that this side holds.
            device: where it computes.
            kind: the class, where the caller has it; else the built-in or installed one of that name. The description
                itself never names a module.

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
        )
        made = kind(parse(kind.Config, self.settings, f"the run's settings of '{self.algorithm}'"), facts)
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
