"""The device's side of an algorithm with numpy: which sums a round has, and one person's part of each.

`fedrec.algorithms` has the same computation for batches of users with torch. Each form here is checked against it by
the inherited contract test `fedrec.testing.device_training.DeviceTrainingContract`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice.history import History
from fedrec.ondevice.kernel_items import KernelItems
from fedrec.privacy.fixed_point import MOST_BITS, Lattice

Shared = Mapping[str, np.ndarray]
"""The public tensors of a round, by name."""


@dataclass(frozen=True)
class RunFacts:
    """What is public of a run before it starts.

    Attributes:
        items: size of the catalogue.
        users: size of the population.
        mu: total signal-to-noise of all releases, infinite without privacy.
        seed: public randomness.
        features: of the items; None where the device does not have them.
    """

    items: int
    users: int = 1
    mu: float = math.inf
    seed: int = 0
    features: KernelItems | None = None

    @property
    def private(self) -> bool:
        """Whether the run clips and adds noise."""
        return math.isfinite(self.mu)


@dataclass(frozen=True)
class DeviceQuery:
    """One sum, as `fedrec.privacy.queries.SumQuery` without what only the server needs.

    Attributes:
        name: unique in its round.
        shape: of the sum.
        clip_norm: L2 clip on the person's whole contribution.
        packed: 0, or the side of a symmetric matrix whose upper triangle the last dimension begins with.
        factors: None: the clip is fixed.
        bits: as in `SumQuery`.
    """

    name: str
    shape: tuple[int, ...]
    clip_norm: float
    packed: int = 0
    factors: None = None
    bits: int = MOST_BITS

    @property
    def size(self) -> int:
        """The number of entries in the sum."""
        return math.prod(self.shape)

    def lattice(self, users: int) -> Lattice:
        """Return the lattice of sums of up to so many users."""
        return Lattice.of(self.clip_norm, users, self.bits)

    def units(self) -> np.ndarray | None:
        """Return the value of a lattice step in each entry of the last dimension; None: 1 everywhere."""
        if not self.packed:
            return None
        row, column = np.triu_indices(self.packed)
        found = np.ones(self.shape[-1])
        found[: len(row)] = np.where(row == column, 1.0, np.float64(np.float32(math.sqrt(2.0))))
        return found


class Part(ABC):
    """One person's contribution to one sum."""

    @abstractmethod
    def norm(self) -> float:
        """The L2 norm of the whole contribution; NaN or infinite where an entry is."""

    @abstractmethod
    def add_to(self, total: np.ndarray, weight: float, lattice: Lattice) -> None:
        """Add the integers of weight * contribution to `total` (int64, the query's shape), rounded towards zero."""


class Training(ABC):
    """The device's side of one algorithm.

    Args:
        settings: the algorithm's own, as a run's description states them.
        facts: of the run.
    """

    algorithm: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any], facts: RunFacts) -> None:
        self.settings, self.facts, self.items = settings, facts, facts.items

    @property
    @abstractmethod
    def rounds(self) -> int:
        """Number of rounds."""

    @abstractmethod
    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        """Return the sums of a round."""

    @abstractmethod
    def parts(self, shared: Shared, history: History, round_index: int) -> dict[str, Part]:
        """Return the person's part of each sum, by the query's name.

        Args:
            shared: the tensors that the server sent.
            history: the person's events.
            round_index: position of the round, from 0.

        Raises: ValueError for tensors of other shapes than the algorithm's.
        """

    def fault(self, shared: Shared, round_index: int) -> str:
        """Return what the device refuses in the tensors of a round, before it pays; "" for nothing."""
        return ""

    def end(self) -> None:
        """Forget what was made for the users of one question."""
        return
