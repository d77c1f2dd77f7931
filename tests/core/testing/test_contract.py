"""The contract that `fedrec.testing` ships catches planted faults, some of which only show after training."""

from collections.abc import Mapping

import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from fedrec.data.users import UserBatch
from fedrec.privacy.queries import Contribution, PrivateSum
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, planted_rows


class Twice(Popularity):
    """Popularity released in two rounds."""

    @property
    def rounds(self) -> int:
        return 2


class RemembersUsers(Twice):
    """Keeps what users did in itself, and adds it to the model, past clip and noise."""

    seen = 0

    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        self.seen += int(users.items.sum())
        return super().contribute(shared, users, round_index)

    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        return {"popularity": super().update(shared, sums, round_index)["popularity"] + self.seen}


class WritesIntoItsArgument(Twice):
    def contribute(self, shared: Shared, users: UserBatch, round_index: int) -> dict[str, Contribution]:
        shared["popularity"][:2] += 1
        return super().contribute(shared, users, round_index)


class NeverTheSame(Twice):
    def update(self, shared: Shared, sums: Mapping[str, PrivateSum], round_index: int) -> Shared:
        return {"popularity": super().update(shared, sums, round_index)["popularity"] + torch.rand(ITEMS)}


def contract_of(kind: type[Popularity]) -> AlgorithmContract:
    class Contract(AlgorithmContract):
        def make(self, facts: PublicFacts) -> Algorithm:
            return kind(PopularityConfig(), facts)

    return Contract()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (RemembersUsers, "test_what_users_do_reaches_the_server_through_the_sums_alone"),
        (WritesIntoItsArgument, "test_contribute_and_update_leave_their_arguments"),
        (NeverTheSame, "test_the_same_seed_gives_the_same_bits"),
    ],
)
def test_a_planted_fault_is_caught_and_its_absence_is_not_accused(kind: type[Popularity], test: str) -> None:
    for algorithm in (Twice, kind):
        contract, users = contract_of(algorithm), batch_of(planted_rows()[0])
        algo = contract.make(contract.facts())
        states = contract.run(algo, users)
        if test == "test_the_same_seed_gives_the_same_bits":
            arguments = {"users": users, "states": states}
        else:
            arguments = {"algo": algo, "users": users, "sampled_rounds": contract.sample(states)}
        if algorithm is kind:
            with pytest.raises(AssertionError):
                getattr(contract, test)(**arguments)
        else:
            getattr(contract, test)(**arguments)
