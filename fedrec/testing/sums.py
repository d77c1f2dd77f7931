"""The part of an algorithm's contract that is about sums: they are exact, and a user's part is the user's own."""

import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.data.users import UserBatch
from fedrec.privacy.clipping import clip_weights
from fedrec.rowwise import rowwise
from fedrec.testing.steps import Rounds, Steps
from fedrec.testing.toy_users import USERS, batch_of, edge_rows, planted_rows


class SumsContract(Steps):
    """Part of `AlgorithmContract`."""

    def test_a_sum_has_the_same_bits_however_users_are_cut_into_batches(
        self, algo: Algorithm, sampled_rounds: Rounds
    ) -> None:
        odd = batch_of(edge_rows() + planted_rows(9, seed=3)[0])
        order = torch.randperm(len(odd), generator=torch.Generator().manual_seed(1))
        for round_index, shared in sampled_rounds:
            whole = self.integers(algo, shared, odd, round_index)
            for cut in (1, 2, 7):
                parts = [odd.slice(start, start + cut) for start in range(0, len(odd), cut)]
                found = [self.integers(algo, shared, part, round_index) for part in parts]
                for name, total in whole.items():
                    assert torch.equal(torch.stack([part[name] for part in found]).sum(0), total), (
                        round_index,
                        name,
                        cut,
                    )
            mixed = self.integers(algo, shared, odd.take(order), round_index)
            assert all(torch.equal(mixed[name], total) for name, total in whole.items()), round_index

    def test_who_leaves_moves_a_computed_sum_by_at_most_the_clip(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        for round_index, shared in sampled_rounds:
            whole = self.integers(algo, shared, odd, round_index)
            for leaving in range(len(odd)):
                rest = odd.take(torch.tensor([row for row in range(len(odd)) if row != leaving]))
                left = self.integers(algo, shared, rest, round_index)
                for query in algo.queries(round_index):
                    moved = query.decode(whole[query.name] - left[query.name], query.lattice(USERS))
                    assert moved.norm() <= query.clip_norm * (1 + 2**-20), (query.name, leaving)

    @staticmethod
    def integers(algo: Algorithm, shared: Shared, users: UserBatch, round_index: int) -> dict[str, torch.Tensor]:
        """The exact sums of a round, as `HostedUsers` makes them."""
        totals = {}
        with rowwise(users.device):
            parts = algo.contribute(shared, users, round_index)
            for query in algo.queries(round_index):
                totals[query.name] = torch.zeros(query.shape, dtype=torch.int64)
                weights = clip_weights(parts[query.name], query.clip_norm)
                parts[query.name].add_to(totals[query.name], weights, query.lattice(USERS))
        return totals
