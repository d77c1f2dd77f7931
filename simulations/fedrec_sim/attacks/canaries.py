"""Canary users: the worst users for the guarantee, so that every possible leak shows.

A canary adds one known direction to every query of its rounds, with a norm far above the clip, so that exactly the clip
remains. Directions are dense, random and mutually orthogonal. They are rows of a discrete cosine transform under random
signs and a random order, never stored, so that a thousand canaries cost one transform. A fair coin decides whether a
canary is in or out. A canary that is out adds nothing, as a removed user does.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.fft import dct, idct
from torch import Tensor

from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, SumQuery


@dataclass(frozen=True)
class Directions:
    """Random orthonormal directions: `count` of them, of `size` >= count numbers."""

    count: int
    size: int
    seed: int

    @cached_property
    def _signs(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.size, 0]).choice([-1.0, 1.0], self.size)

    @cached_property
    def _places(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.size, 1]).permutation(self.size)[: self.count]

    def combined(self, which: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Return the sum of `amounts` times the directions `which`, (size,) float64."""
        spectrum = np.zeros(self.size)
        np.add.at(spectrum, self._places[which], amounts)
        combined: np.ndarray = self._signs * idct(spectrum, norm="ortho")
        return combined

    def along(self, vector: np.ndarray) -> np.ndarray:
        """Return the inner product of `vector` (size,) with every direction, (count,) float64."""
        return np.asarray(dct(self._signs * vector, norm="ortho"))[self._places]


class Canaries:
    """Canary users at `positions`, `included` (canaries,) bool by coins; raw norm = `loudness` clips.

    Queries with fewer numbers than there are canaries have no room for the directions: canaries add nothing to them.
    """

    def __init__(self, positions: np.ndarray, included: np.ndarray, seed: int, loudness: float = 16.0) -> None:
        self.positions, self.included, self.seed, self.loudness = positions, included, seed, loudness
        self._directions: dict[tuple[str, int], Directions] = {}

    def has_room(self, query: SumQuery) -> bool:
        """Whether the query is large enough for all canaries."""
        return query.size >= len(self.positions)

    def directions(self, query: SumQuery) -> Directions:
        """Return the canaries' directions in a query, which are the same in every round."""
        key = query.name, query.size
        if key not in self._directions:
            name = int.from_bytes(query.name.encode()[:6], "little")
            self._directions[key] = Directions(len(self.positions), query.size, self.seed * 2**16 + name % 65521)
        return self._directions[key]

    def plant(self, query: SumQuery, contribution: Contribution, rows: Tensor, which: np.ndarray) -> Contribution:
        loud = self.included[which] & self.has_room(query)
        norms = np.where(loud, self.loudness * query.clip_norm, 0.0)
        return WithCanaries(contribution, rows, which, norms, self.directions(query) if loud.any() else None, query)


class WithCanaries(Contribution):
    """`inner` with the parts of `rows` replaced: direction `which` times `norms` (rows,), nothing where that is 0."""

    def __init__(
        self,
        inner: Contribution,
        rows: Tensor,
        which: np.ndarray,
        norms: np.ndarray,
        directions: Directions | None,
        query: SumQuery,
    ) -> None:
        self.inner, self.rows, self.which, self._norms = inner, rows, which, norms
        self.directions, self.query, self.packed = directions, query, query.packed

    def norms(self) -> Tensor:
        norms = self.inner.norms().clone()
        norms[self.rows] = torch.from_numpy(self._norms).to(norms)
        return norms

    def unit_weights(self) -> Tensor:
        return self.inner.unit_weights()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        others = weights.clone()
        others[self.rows] = 0.0
        self.inner.add_to(total, others, lattice)
        if self.directions is not None:
            amounts = self._norms * weights[self.rows].double().cpu().numpy()
            planted = torch.from_numpy(self.directions.combined(self.which, amounts)).view(self.query.shape)
            total += self.query.encode(planted.to(total.device), lattice)

    def dense(self, row: int) -> Tensor:
        found = (self.rows == row).nonzero()
        if not len(found):
            return self.inner.dense(row)
        place = int(found[0, 0])
        if self.directions is None:
            return torch.zeros(self.query.shape)
        one = self.directions.combined(self.which[place : place + 1], self._norms[place : place + 1])
        return torch.from_numpy(one).float().view(self.query.shape)
