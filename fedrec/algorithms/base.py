"""The Algorithm interface: four functions that know nothing of noise, transport or accounting.

An algorithm is written once, for a batch of users. `queries` says which sums a round needs, `contribute` what each
user of a batch would add, `update` what the server does with the (already private) sums, `release` what a device
gets. The clip, the noise and the ledger stand outside, in `fedrec.privacy`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.data.catalogue import Catalogue
from fedrec.data.users import UserBatch
from fedrec.model import ReleasedModel
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings

Shared = dict[str, Tensor]
"""The public state that the server holds and devices download: named tensors, nothing else."""


@dataclass(frozen=True)
class PublicFacts:
    """What is publicly known before a run starts.

    users: size of the population (given, never counted from logs). expected_cohort: users x sampling probability,
    the fixed denominator of every average. mu: total signal-to-noise of all releases (Gaussian DP; infinite
    without privacy); post-processing may depend on it, since it follows from the public budget alone.
    """

    catalogue: Catalogue
    users: int
    expected_cohort: float
    mu: float = math.inf
    seed: int = 0
    device: torch.device = torch.device("cpu")

    @property
    def private(self) -> bool:
        """Whether sums come with noise."""
        return math.isfinite(self.mu)

    @property
    def strength(self) -> float:
        """mu x users: what a sum tells grows with the users and its noise does not, so a budget goes further with more.

        Public, for settings that are left open; infinite without privacy.
        """
        return self.mu * self.users


class Algorithm(ABC):
    """One federated algorithm. A new one is one new file in this folder; its contract test is inherited."""

    name: ClassVar[str]
    Config: ClassVar[type[Settings]]

    def __init__(self, config: Any, facts: PublicFacts) -> None:
        self.config = config
        self.facts = facts

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that `config` leaves open and what was chosen for them, from public facts alone (JSON-able)."""
        return {}

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How many rounds the algorithm asks for (0: nothing is learned from users)."""

    @property
    def preparation(self) -> int:
        """Rounds at the start that release what the later ones build on; before they end there is no model to judge."""
        return 0

    @abstractmethod
    def initial(self) -> Shared:
        """The shared state before the first round."""

    @abstractmethod
    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        """The sums of round 0 <= round_index < rounds. They follow from public facts alone: all are priced ahead."""

    @abstractmethod
    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        """What each user of the batch would add to each query of the round. Users never mix."""

    @property
    def server_only(self) -> frozenset[str]:
        """Names in the shared state that `contribute` never reads: they need not travel."""
        return frozenset()

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        """What of the shared state a device needs for `contribute` in that round."""
        return {name: tensor for name, tensor in shared.items() if name not in self.server_only}

    @abstractmethod
    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        """The next shared state. `sums` are private already; divide by `facts.expected_cohort`, never by a count."""

    @abstractmethod
    def release(self, shared: Shared) -> ReleasedModel:
        """What devices get."""

    def stop(self, shared: Shared) -> str | None:
        """Why to end the run before its next round, None to go on. Asked after each round but the last.

        Depends on the shared state and public settings alone, so that stopping is post-processing of private sums.
        The rounds that are left are charged all the same: see `fedrec.evaluation.stopping`.
        """
        return None
