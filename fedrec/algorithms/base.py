"""The Algorithm interface: four functions without noise, transport or accounting.

An algorithm is written once, for a batch of users. `queries` names the sums of a round and `contribute` computes each
user's part of them. `update` uses the sums, which are private by then, and `release` makes the model for devices. The
clip, the noise and the ledger are in `fedrec.privacy`.
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
from fedrec.errors import InputError
from fedrec.model import ReleasedModel
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


@dataclass(frozen=True)
class ItemStart:
    """Item vectors of another run's release, from which this one starts. They are public.

    Attributes:
        vectors: (items, d) float32 in the order of this run's catalogue, 0 where unknown.
        known: (items,) bool, which items the other run has.
    """

    vectors: Tensor
    known: Tensor

    def of_width(self, width: int) -> Tensor:
        """Return the vectors, for an algorithm whose vectors have `width` numbers.

        Raises:
            InputError: for vectors of another length.
        """
        if self.vectors.shape[1] != width:
            raise InputError(
                f"[start]: the other run's item vectors have {self.vectors.shape[1]} numbers and this run's {width}; "
                "set the same dim"
            )
        return self.vectors


Shared = dict[str, Tensor]
"""The public state that the server holds and devices download: named tensors, nothing else."""


@dataclass(frozen=True)
class PublicFacts:
    """Public facts of a run, known before it starts.

    Attributes:
        catalogue: the public items.
        users: size of the population, given, never counted from logs.
        expected_cohort: users x sampling probability, the fixed denominator of every average.
        mu: total signal-to-noise of all releases (Gaussian DP), infinite without privacy. Post-processing may depend
            on it, since it follows from the public budget alone.
        seed: public randomness: initial values, local negatives.
        device: where tensors are computed.
        start: item vectors of another run, from which this one starts; None for the algorithm's own start.
    """

    catalogue: Catalogue
    users: int
    expected_cohort: float
    mu: float = math.inf
    seed: int = 0
    device: torch.device = torch.device("cpu")
    start: ItemStart | None = None

    @property
    def private(self) -> bool:
        """Whether sums come with noise."""
        return math.isfinite(self.mu)

    @property
    def strength(self) -> float:
        """mu x users, infinite without privacy: the signal of a sum grows with the users, and its noise does not.

        Rules for settings that are left open depend on it.
        """
        return self.mu * self.users


class Algorithm(ABC):
    """One federated algorithm. A new one is one new file in this folder; its contract test is inherited."""

    name: ClassVar[str]
    Config: ClassVar[type[Settings]]
    fixed_clips: ClassVar[Mapping[str, str]] = {}
    """Queries of several rounds whose clip must not adapt, by name: why, as the end of a sentence about the clip."""
    begins: ClassVar[bool] = False
    """Whether it can start from item vectors of another run, `facts.start`."""

    def __init__(self, config: Any, facts: PublicFacts) -> None:
        self.config = config
        self.facts = facts

    def rebuilt(self, facts: PublicFacts) -> "Algorithm":
        """Return the same algorithm for other public facts."""
        return type(self)(self.config, facts)

    @property
    def chosen(self) -> dict[str, Any]:
        """Values of the settings that `config` leaves open, chosen from public facts alone (JSON-able)."""
        return {}

    @property
    @abstractmethod
    def rounds(self) -> int:
        """Number of rounds; 0 where nothing is learned from users."""

    @property
    def preparation(self) -> int:
        """Number of first rounds whose releases the later ones need; before they end there is no model to evaluate."""
        return 0

    @abstractmethod
    def initial(self) -> Shared:
        """The shared state before the first round."""

    @abstractmethod
    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        """Return the sums of a round, 0 <= round_index < rounds. Public facts alone decide, so all are priced first."""

    @abstractmethod
    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        """Return each user's part of each query of the round, by the query's name. A row depends on its user alone.

        Args:
            shared: the state that the server sent, as `for_devices` made it.
            users: a batch of B users; contributions have B rows.
            round_index: position of the round, from 0.
        """

    def adds(self, keys: Tensor, round_index: int) -> Tensor | None:
        """Return which users may add anything but zeros in a round, (B,) bool; None for all of them.

        A federation need not compute what the others add. Public facts and the keys decide, never an event.

        Args:
            keys: of B users, as `UserBatch.keys`.
            round_index: position of the round, from 0.
        """
        return None

    @property
    def server_only(self) -> frozenset[str]:
        """Names in the shared state that `contribute` never reads. They are not sent to devices."""
        return frozenset()

    def for_devices(self, shared: Shared, round_index: int) -> Shared:
        """Return the part of the shared state that `contribute` reads in that round."""
        return {name: tensor for name, tensor in shared.items() if name not in self.server_only}

    def fault(self, shared: Shared, round_index: int) -> str:
        """Return what a device refuses in the state that a server sent for a round; "" for nothing. It is public."""
        return ""

    @abstractmethod
    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        """Return the next shared state.

        Args:
            shared: the state before the round.
            sums: the private sums of the round's queries, by name. An average divides by `facts.expected_cohort`,
                never by a count.
            round_index: position of the round, from 0.
        """

    @abstractmethod
    def release(self, shared: Shared) -> ReleasedModel:
        """Return the model for devices."""

    def stop(self, shared: Shared) -> str | None:
        """Return why the run ends before its next round; None to continue. Called after each round but the last.

        It depends on the shared state and public settings alone: stopping is post-processing of private sums. The
        remaining rounds are charged all the same (`fedrec.evaluation.stopping`).
        """
        return None


class Wrapper(Algorithm):
    """An algorithm around another one, whose tensors it keeps, with its own under names of a prefix.

    Args:
        inner: the algorithm that it wraps, already rebuilt for what the wrapper leaves of the budget.
        config: its own settings.
        facts: those of the whole run.
    """

    own_names: ClassVar[str]
    """Prefix of the names of its own tensors."""

    def __init__(self, inner: Algorithm, config: Any, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.inner = inner
        self._split: tuple[Shared, Shared] | None = None

    def rebuilt(self, facts: PublicFacts) -> Algorithm:
        kind: Any = type(self)
        made: Algorithm = kind(self.inner.rebuilt(facts), self.config)
        return made

    @property
    def chosen(self) -> dict[str, Any]:
        return self.inner.chosen

    def release(self, shared: Shared) -> ReleasedModel:
        return self.inner.release(self.inner_state(shared))

    def stop(self, shared: Shared) -> str | None:
        return self.inner.stop(self.inner_state(shared))

    def own_state(self, shared: Shared) -> Shared:
        """Return its own part of the state."""
        return {name: tensor for name, tensor in shared.items() if name.startswith(self.own_names)}

    def inner_state(self, shared: Shared) -> Shared:
        """Return the inner algorithm's state; the same object for the same state, so that caches work."""
        if self._split is None or self._split[0] is not shared:
            inner = {name: tensor for name, tensor in shared.items() if not name.startswith(self.own_names)}
            self._split = (shared, type(shared)(inner))
        return self._split[1]


def layers(algorithm: Algorithm) -> list[Algorithm]:
    """Return the algorithm, and those that it wraps, the innermost last."""
    found = [algorithm]
    while isinstance(inner := getattr(found[-1], "inner", None), Algorithm):
        found.append(inner)
    return found
