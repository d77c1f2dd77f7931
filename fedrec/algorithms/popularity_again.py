"""Popularity asked again, in rounds that were priced for a sum which the releases so far show to be useless.

The plan fixes clip, noise and price of each round ahead. Which of two sums a round asks for may depend on what was
released before: Gaussian mechanisms compose adaptively, as long as each is as sensitive as its price says (Dong, Roth,
Su 2022, theorem 3.2). Both sums have the same clip on a user's whole contribution, so the ledger's price holds for
either, and the name of the query says that it may be either. The server puts its choice into the shared state, and a
device computes what is asked for. The choice follows from releases alone; the guarantee would hold for any choice.

A sum of popularity has one entry an item. The rounds have a sum long enough for both, and what the shorter one leaves
is noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_plan import AGAIN, NEVER, OR_POPULARITY, fault_of_choice
from fedrec.algorithms.stage import Stage
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import popularity_contribution
from fedrec.privacy.queries import Contribution, PaddedContribution, PrivateSum

COUNTED, NOISE = "counted", "counted noise"
"""Names in the shared state of the noisy sum of popularity so far, (items,), and of its standard deviation."""


@dataclass(frozen=True)
class PopularityAgain:
    """Stages whose rounds may ask for popularity.

    Attributes:
        facts: the public facts of the run.
        decided: the first round that may ask for popularity again.
    """

    facts: PublicFacts
    decided: int

    def begin(self, release: PrivateSum) -> Shared:
        """Return the part of the state that holds the first sum of popularity, before any choice."""
        return self.chosen(NEVER) | _state(release)

    def chosen(self, choice: int) -> Shared:
        """Return the part of the state that makes a choice."""
        return {AGAIN: torch.tensor(float(choice), device=self.facts.device)}

    def stage(self, usual: Stage, grade: int, then: Callable[[Shared], Shared]) -> Stage:
        """Return the rounds of a stage, which ask for popularity where the choice is of this grade or a higher one.

        Args:
            usual: a stage with one query, whose sum has one dimension and whose contributions are clipped to 1.
            grade: `PAIRS` or `ALL`.
            then: the state after one more sum of popularity to the next one.
        """
        (query,) = usual.queries
        longer = replace(query, name=query.name + OR_POPULARITY, shape=(max(self._items, query.size),))

        def contribute(shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
            if shared[AGAIN] >= grade:
                return {longer.name: popularity_contribution(users, size=longer.size)}
            return {longer.name: PaddedContribution(usual.contribute(shared, users, step)[query.name], longer.size)}

        def update(shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
            value, noise_std = sums[longer.name].value, sums[longer.name].noise_std
            if shared[AGAIN] >= grade:
                return then(shared | _state(counted(shared).pooled(PrivateSum(value[: self._items], noise_std))))
            return usual.update(shared, {query.name: PrivateSum(value[: query.size], noise_std)}, step)

        return Stage(usual.rounds, (longer,), contribute, update, usual.alongside)

    def fault(self, choice: Tensor | None, round_index: int) -> str:
        """Return what a device refuses in the server's choice for a round; "" for nothing."""
        one = None if choice is None or choice.numel() != 1 else float(choice)
        return fault_of_choice(one, round_index, self.decided)

    @property
    def _items(self) -> int:
        return len(self.facts.catalogue)


def counted(shared: Shared) -> PrivateSum:
    """Return the noisy sum of popularity so far, (items,): the mean of all of them, by the inverse of their noise."""
    return PrivateSum(shared[COUNTED], float(shared[NOISE]))


def _state(release: PrivateSum) -> Shared:
    return {COUNTED: release.value, NOISE: torch.tensor(release.noise_std, device=release.value.device)}
