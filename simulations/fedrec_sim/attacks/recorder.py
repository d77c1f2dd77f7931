"""An algorithm that is watched: the real coordinator, federation and plan run it, and what they do is written down.

The recorder sees what a model recipient sees (every noisy sum and every model), and beside it, as an attacker who
knows all other users would, the sum that those others should have given: each clipped here by the rule of
`fedrec.privacy.clipping`, not by the plan under test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.draws import keys
from fedrec.model import ReleasedModel
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from fedrec.settings import Settings


class Intruders(Protocol):
    """Users whose part is the attack's: they stand at known positions of the population."""

    positions: np.ndarray
    """(intruders,) int64, ascending."""

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        """`contribution` with the parts of the batch's `rows` replaced; those rows are the intruders `which`."""
        ...


class Nobody:
    """No intruders."""

    positions = np.zeros(0, dtype=np.int64)

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        return contribution


@dataclass
class Release:
    """One noisy sum and the un-noised one that the known users should have given, flat float64 (size,) each."""

    query: SumQuery
    noisy: np.ndarray
    noise_std: float
    others: np.ndarray

    @property
    def rest(self) -> np.ndarray:
        """What is left: noise, and what intruders added."""
        return self.noisy - self.others


@dataclass
class Observation:
    """A round. cohort: positions of those who were asked; before, after: the public state around the update."""

    round: int
    releases: dict[str, Release]
    cohort: np.ndarray
    before: Shared
    after: Shared = field(default_factory=dict)


class Recorder(Algorithm):
    """`inner`, watched. identities: (users,) int64 of the population; on_round gets each round when it is done."""

    name: ClassVar[str] = "recorded"
    Config: ClassVar[type[Settings]] = Settings

    def __init__(
        self,
        inner: Algorithm,
        identities: np.ndarray,
        on_round: Callable[[Observation], None],
        intruders: Intruders | None = None,
        *,
        private: bool = True,
    ) -> None:
        super().__init__(inner.config, inner.setting)
        self.inner, self.on_round, self.private = inner, on_round, private
        self.intruders: Intruders = intruders or Nobody()
        known = keys(inner.setting.seed, torch.from_numpy(identities)).numpy()
        self._order = np.argsort(known)
        self._sorted = known[self._order]
        self._others: dict[str, Tensor] = {}
        self._cohort: list[np.ndarray] = []

    @property
    def chosen(self) -> dict[str, Any]:
        return self.inner.chosen

    @property
    def rounds(self) -> int:
        return self.inner.rounds

    @property
    def preparation(self) -> int:
        return self.inner.preparation

    def stop(self, shared: Shared) -> str | None:
        return self.inner.stop(shared)

    def initial(self) -> Shared:
        return self.inner.initial()

    def queries(self, round: int) -> tuple[SumQuery, ...]:
        return self.inner.queries(round)

    def positions(self, users: UserBatch) -> np.ndarray:
        """Where the users of a batch stand in the population, (B,) int64."""
        return self._order[np.searchsorted(self._sorted, users.keys.cpu().numpy())]

    def contribute(self, shared: Shared, users: UserBatch, round: int) -> dict[str, Contribution]:
        given = self.inner.contribute(shared, users, round)
        places = self.positions(users)
        self._cohort.append(places)
        intruding = np.isin(places, self.intruders.positions)
        rows = torch.from_numpy(np.flatnonzero(intruding)).to(users.device)
        which = np.searchsorted(self.intruders.positions, places[intruding])
        for query in self.queries(round):
            contribution = given[query.name]
            weights = clip_weights(contribution, query.clip_norm) if self.private else contribution.unit_weights()
            known = weights.clone()
            known[rows] = 0.0
            if query.name not in self._others:
                self._others[query.name] = torch.zeros(query.shape, dtype=torch.int64, device=users.device)
            contribution.add_to(self._others[query.name], known, self._lattice(query))
            if len(rows):
                given[query.name] = self.intruders.plant(query, contribution, rows, which)
        return given

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round: int) -> Shared:
        releases = {}
        for query in self.queries(round):
            others = self._others.get(query.name)
            known = np.zeros(query.size) if others is None else _flat(query.decode(others, self._lattice(query)))
            releases[query.name] = Release(query, _flat(sums[query.name].value), sums[query.name].noise_std, known)
        cohort = np.concatenate(self._cohort) if self._cohort else np.zeros(0, dtype=np.int64)
        seen = Observation(round, releases, cohort, shared)
        self._others, self._cohort = {}, []
        seen.after = self.inner.update(shared, sums, round)
        self.on_round(seen)
        return seen.after

    def release(self, shared: Shared) -> ReleasedModel:
        return self.inner.release(shared)

    def _lattice(self, query: SumQuery) -> Lattice:
        return Lattice.of(query.clip_norm, self.setting.users)


def _flat(tensor: Tensor) -> np.ndarray:
    flat: np.ndarray = tensor.detach().cpu().reshape(-1).double().numpy()
    return flat
