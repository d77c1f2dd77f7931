"""Stages: an algorithm as the parts that its paper describes, each of some rounds with the same sums.

A stage counts its own steps from 0 and has no view of the rounds of the run. `Staged` places the stages one after the
other and passes each round to those that are active in it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.data.users import UserBatch
from fedrec.kernels.popularity import denoise, popularity_contribution, popularity_query
from fedrec.kernels.public import PublicKernels, public_kernels
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery


@dataclass(frozen=True)
class Stage:
    """Some rounds with the same sums. Its functions count its own steps, from 0.

    Attributes:
        rounds: number of rounds.
        queries: the sums of each round.
        contribute: (shared state, users, step) to each user's part of each query, by the query's name.
        update: (shared state, private sums by name, step) to the next shared state.
        alongside: the next stage starts in the same round, not after this one. No query of the two shares a name.
    """

    rounds: int
    queries: tuple[SumQuery, ...]
    contribute: Callable[[Shared, UserBatch, int], dict[str, Contribution]]
    update: Callable[[Shared, Mapping[str, PrivateSum], int], Shared]
    alongside: bool = False


class Staged(Algorithm):
    """An algorithm made of stages. The last stage trains the model; the earlier ones release what it builds on.

    A release of popularity, and two rounds that count how often each item is somebody's newest:

    >>> import torch
    >>> from fedrec.algorithms.base import PublicFacts
    >>> from fedrec.algorithms.popularity import PopularityModel
    >>> from fedrec.data.catalogue import Catalogue
    >>> from fedrec.privacy.queries import DenseContribution
    >>> from fedrec.settings import Settings
    >>> class Newest(Staged):
    ...     name, Config = "newest", Settings
    ...     @property
    ...     def stages(self):
    ...         counts = (SumQuery("counts", (3,), clip_norm=1.0, budget_share=0.4),)
    ...         popularity = popularity_stage(self.facts, 0.2, self.begin)
    ...         return (popularity, Stage(2, counts, self.newest, self.add))
    ...     def initial(self):
    ...         return {"scores": torch.ones(3)}
    ...     def begin(self, shared, popularity, release):
    ...         return {"scores": popularity}
    ...     def newest(self, shared, users, step):
    ...         rows = torch.nn.functional.one_hot(users.newest(0), 3).float()  # (B, items)
    ...         return {"counts": DenseContribution(rows)}
    ...     def add(self, shared, sums, step):
    ...         return {"scores": shared["scores"] + sums["counts"].value}
    ...     def release(self, shared):
    ...         return PopularityModel(shared["scores"]).by(self.name)
    >>> newest = Newest(Settings(), PublicFacts(Catalogue(("a", "b", "c")), users=3, expected_cohort=3.0))
    >>> newest.rounds, newest.preparation
    (3, 1)
    >>> [[query.name for query in newest.queries(round)] for round in range(newest.rounds)]
    [['popularity'], ['counts'], ['counts']]
    """

    @property
    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order, decided by configuration and public facts alone."""

    @property
    def rounds(self) -> int:
        return max((start + stage.rounds for start, stage in self._placed()), default=0)

    @property
    def preparation(self) -> int:
        *_, (start, _) = self._placed()
        return start

    def queries(self, round_index: int) -> tuple[SumQuery, ...]:
        return tuple(query for stage, _ in self._active(round_index) for query in stage.queries)

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        parts: dict[str, Contribution] = {}
        for stage, step in self._active(round_index):
            parts |= stage.contribute(shared, users, step)
        return parts

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        for stage, step in self._active(round_index):
            shared = stage.update(shared, {query.name: sums[query.name] for query in stage.queries}, step)
        return shared

    def _placed(self) -> Iterator[tuple[int, Stage]]:
        """Yield (first round, stage) of each stage."""
        start = 0
        for stage in self.stages:
            yield start, stage
            start += 0 if stage.alongside else stage.rounds

    def _active(self, round_index: int) -> list[tuple[Stage, int]]:
        """Return (stage, its own step) of each stage that is active in a round."""
        return [
            (stage, round_index - start) for start, stage in self._placed() if 0 <= round_index - start < stage.rounds
        ]


def popularity_stage(
    facts: PublicFacts,
    share: float,
    begin: Callable[[Shared, Tensor, PrivateSum], Shared],
    *,
    public: PublicKernels | None = None,
    alongside: bool = False,
) -> Stage:
    """Return a stage of one round: the popularity of items from unit-norm histories (`fedrec.kernels.popularity`).

    Args:
        facts: the public facts of the run.
        share: part of the privacy budget.
        begin: (shared state, popularity (items,), all above 0, the private sum that it is estimated from) to the state
            that the next stage starts from.
        public: kernels of the catalogue, on the device of the facts; None to make them when the sum arrives.
        alongside: whether the next stage starts in the same round.
    """

    def contribute(_shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        return {"popularity": popularity_contribution(users)}

    def update(shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        kernels = public or public_kernels(facts.catalogue, products=False).to(facts.device)
        release = sums["popularity"]
        return begin(shared, denoise(release, kernels), release)

    return Stage(1, (popularity_query(len(facts.catalogue), share),), contribute, update, alongside)
