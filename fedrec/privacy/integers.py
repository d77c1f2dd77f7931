"""The integers that users add to a query's total, by trust model.

`central` adds on the fine lattice of `fedrec.privacy.fixed_point`. `distributed` and `local` encode each user's own
vector (`fedrec.privacy.discrete.encoding`), by the function that a device calls, and add modulo 2^b. Rounding goes by
the user's key, so chunks, threads and nodes change no bit. Noise shares and masks are not added here.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedrec.privacy.discrete.encoding import Encoding
from fedrec.privacy.discrete.rounding import users_draws
from fedrec.privacy.fixed_point import Lattice, check_room
from fedrec.privacy.queries import Contribution, DenseContribution, SumQuery

NUMBERS_AT_ONCE = 1 << 22


class Integers(Protocol):
    """The way from clipped contributions to a query's integer total."""

    def zeros(self, query: SumQuery, round_index: int, device: torch.device) -> Tensor:
        """Return an empty total, int64."""
        ...

    def add(
        self,
        total: Tensor,
        query: SumQuery,
        round_index: int,
        contribution: Contribution,
        weights: Tensor,
        keys: Tensor,
    ) -> None:
        """Add a batch of users to a total, in place.

        Args:
            total: int64, as from `zeros`.
            query: the query.
            round_index: position of the round, from 0.
            contribution: of B users.
            weights: the clip's weights, (B,) float64.
            keys: the users' keys, (B,) int64.
        """
        ...


class ExactIntegers:
    """Trust model `central`: integers on the fine lattice.

    Args:
        population: the public number of users.
    """

    def __init__(self, population: int) -> None:
        self.population = population

    def zeros(self, query: SumQuery, round_index: int, device: torch.device) -> Tensor:
        return torch.zeros(query.shape, dtype=torch.int64, device=device)

    def add(
        self,
        total: Tensor,
        query: SumQuery,
        round_index: int,
        contribution: Contribution,
        weights: Tensor,
        keys: Tensor,
    ) -> None:
        contribution.add_to(total, weights, query.lattice(self.population))


class EncodedIntegers:
    """Trust models `distributed` and `local`: encoded integers modulo 2^b.

    Args:
        encodings: returns the encoding of a round's query by its name.
        population: the public number of users.
        seed: of the users' own rounding. Privacy does not rest on it.
    """

    def __init__(self, encodings: Callable[[int, str], Encoding], population: int, seed: int) -> None:
        self.encodings, self.population, self.seed = encodings, population, seed

    def zeros(self, query: SumQuery, round_index: int, device: torch.device) -> Tensor:
        made = self.encodings(round_index, query.name)
        return torch.zeros(total_shape(query, made), dtype=torch.int64, device=device)

    def add(
        self,
        total: Tensor,
        query: SumQuery,
        round_index: int,
        contribution: Contribution,
        weights: Tensor,
        keys: Tensor,
    ) -> None:
        made = self.encodings(round_index, query.name)
        if made.kind == "plain":
            contribution.add_to(total, weights, plain_lattice(query, made))
        else:
            fine = query.lattice(self.population)
            for users, whole in self._rows(query, contribution, weights, fine, made.dimension):
                draws = [users_draws(self.seed, round_index, query.name, int(key)) for key in keys[users]]
                rows = made.rotated(whole, query.clip_norm / fine.step, draws)
                total += torch.from_numpy(rows.sum(0)).to(total.device)
        check_room(total)
        total &= (1 << made.bits) - 1

    def _rows(
        self, query: SumQuery, contribution: Contribution, weights: Tensor, fine: Lattice, dimension: int
    ) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield users and their vectors on the fine lattice, (some, size) float64: whole, and no longer than the clip.

        Users with a weight of zero are left out: their integers are zeros.
        """
        units = query.units(torch.device("cpu"))
        counted = (weights != 0).nonzero()[:, 0]
        for users in torch.split(counted, max(1, NUMBERS_AT_ONCE // dimension)) if len(counted) else ():
            if type(contribution) is DenseContribution:
                weighted = contribution.values[users].double().flatten(1) * weights[users].double()[:, None]
                whole = fine.whole(weighted).cpu()
            else:
                whole = torch.zeros(len(users), query.size, dtype=torch.float64)
                for place, user in enumerate(users.tolist()):
                    one, alone = torch.zeros_like(weights), torch.zeros(query.shape, dtype=torch.int64)
                    one[user] = weights[user]
                    alone = alone.to(weights.device)
                    contribution.add_to(alone, one, fine)
                    whole[place] = alone.flatten().double().cpu()
            if units is not None:  # the packing's entries in the sum's own units, again rounded towards zero
                whole = (whole.view(len(users), -1, len(units)) * units).trunc_().flatten(1)
            yield users, whole.numpy()


def total_shape(query: SumQuery, made: Encoding) -> tuple[int, ...]:
    """Return the shape of a query's integer total."""
    return query.shape if made.kind == "plain" else (made.dimension,)


def plain_lattice(query: SumQuery, made: Encoding) -> Lattice:
    """Return the lattice of a plain query's integers."""
    return Lattice(math.frexp(query.clip_norm / made.length)[1] - 1)
