"""A recorder around an algorithm, run by the real coordinator, federation and plan.

The recorder sees the view of a model recipient: every noisy sum and every model. It also computes the right sum of all
other users, which an attacker with their data has. Each part is clipped here by the rule of `fedrec.privacy.clipping`,
not by the plan under test.
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
    """Users with parts made by the attack, at known positions of the population."""

    positions: np.ndarray
    """(intruders,) int64, ascending."""

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        """Return `contribution` with the parts of the batch's `rows` replaced; they are the intruders `which`."""
        ...


class Nobody:
    """No intruders."""

    positions = np.zeros(0, dtype=np.int64)

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        return contribution


@dataclass
class Release:
    """One noisy sum and the right sum of the known users without noise, flat float64 (size,) each."""

    query: SumQuery
    noisy: np.ndarray
    noise_std: float
    others: np.ndarray

    @property
    def rest(self) -> np.ndarray:
        """The difference: noise and the parts of intruders."""
        return self.noisy - self.others


@dataclass
class Observation:
    """A round. cohort: positions of the participants; before, after: the public state around the update."""

    round: int
    releases: dict[str, Release]
    cohort: np.ndarray
    before: Shared
    after: Shared = field(default_factory=dict)


class Recorder(Algorithm):
    """A recorder of `inner`. identities: (users,) int64 of the population; on_round receives each finished round."""

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
        super().__init__(inner.config, inner.facts)
        self.inner, self.on_round, self.private = inner, on_round, private
        self.intruders: Intruders = intruders or Nobody()
        known = keys(inner.facts.seed, torch.from_numpy(identities)).numpy()
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

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        return self.inner.queries(round_index)

    def positions(self, users: UserBatch) -> np.ndarray:
        """Return the positions of a batch's users in the population, (B,) int64."""
        return self._order[np.searchsorted(self._sorted, users.keys.cpu().numpy())]

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        given = self.inner.contribute(shared, users, round_index)
        places = self.positions(users)
        self._cohort.append(places)
        intruding = np.isin(places, self.intruders.positions)
        rows = torch.from_numpy(np.flatnonzero(intruding)).to(users.device)
        which = np.searchsorted(self.intruders.positions, places[intruding])
        for query in self.queries(round_index):
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

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        releases = {}
        for query in self.queries(round_index):
            others = self._others.get(query.name)
            known = np.zeros(query.size) if others is None else _flat(query.decode(others, self._lattice(query)))
            releases[query.name] = Release(query, _flat(sums[query.name].value), sums[query.name].noise_std, known)
        cohort = np.concatenate(self._cohort) if self._cohort else np.zeros(0, dtype=np.int64)
        seen = Observation(round_index, releases, cohort, shared)
        self._others, self._cohort = {}, []
        seen.after = self.inner.update(shared, sums, round_index)
        self.on_round(seen)
        return seen.after

    def release(self, shared: Shared) -> ReleasedModel:
        return self.inner.release(shared)

    def _lattice(self, query: SumQuery) -> Lattice:
        return query.lattice(self.facts.users)


def _flat(tensor: Tensor) -> np.ndarray:
    flat: np.ndarray = tensor.detach().cpu().reshape(-1).double().numpy()
    return flat
