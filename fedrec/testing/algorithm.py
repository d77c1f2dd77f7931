"""The contract that every algorithm keeps. A new algorithm inherits these tests and gives only its factory.

class TestALS(AlgorithmContract):
    def make(self, facts):
        return ALS(ALSConfig(dim=8, rounds=4), facts)
"""

import pytest
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.algorithms.discover import algorithm
from fedrec.data.users import UserBatch
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.model import ReleasedModel
from fedrec.precision import Precision, users_precision
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, PrivateSum
from fedrec.testing.awkward import AwkwardContract
from fedrec.testing.clipping import ClippingContract
from fedrec.testing.model import ModelContract
from fedrec.testing.ondevice import DeviceFormContract
from fedrec.testing.steps import Rounds
from fedrec.testing.sums import SumsContract
from fedrec.testing.toy_users import USERS, batch_of, close, edge_rows, planted_rows


class AlgorithmContract(ModelContract, DeviceFormContract, SumsContract, ClippingContract, AwkwardContract):
    """Inherit, and give `make`. Class attributes say where an algorithm may differ; the model has its own contract.

    installed: False for code of one's own that no entry point names.
    """

    installed = True

    # ---- queries

    def test_shares_sum_to_at_most_one_over_the_run(self, algo: Algorithm) -> None:
        shares = [query.budget_share for round_index in range(algo.rounds) for query in algo.queries(round_index)]
        assert sum(shares) <= 1 + 1e-9
        assert not algo.rounds or sum(shares) > 0.5, "most of the budget lies unused"

    def test_queries_depend_on_the_setting_alone(self, algo: Algorithm) -> None:
        twin = self.make(self.facts())
        for round_index in range(algo.rounds):
            names = [query.name for query in algo.queries(round_index)]
            assert len(set(names)) == len(names)
            assert algo.queries(round_index) == twin.queries(round_index)

    def test_contributions_have_the_names_and_shapes_of_the_queries(
        self, algo: Algorithm, users: UserBatch, sampled_rounds: Rounds
    ) -> None:
        for round_index, shared in sampled_rounds:
            contributions = algo.contribute(shared, users, round_index)
            assert set(contributions) == {query.name for query in algo.queries(round_index)}
            for query in algo.queries(round_index):
                part = contributions[query.name]
                assert part.norms().shape == (len(users),)
                assert part.norms().dtype == torch.float64
                assert torch.equal(part.unit_weights(), torch.ones(len(users), dtype=torch.float64))
                total = part.weighted_sum(torch.ones(len(users)))
                assert total.shape == query.shape
                assert total.dtype == torch.float32
                assert part.dense(0).shape == query.shape

    def test_an_empty_history_adds_nothing(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        for round_index, shared in sampled_rounds:
            for query, part in self.pairs(algo, shared, batch_of([[], []]), round_index):
                assert not part.dense(1).any(), query.name

    def test_its_model_is_called_by_its_name(self, algo: Algorithm, model: ReleasedModel) -> None:
        inner = getattr(algo, "inner", algo)
        assert model.called == inner.name

    def test_devices_get_what_they_read_and_nothing_else(
        self, algo: Algorithm, users: UserBatch, states: list[Shared]
    ) -> None:
        read: set[str] = set()

        class Read(dict):
            def __getitem__(self, name: str) -> torch.Tensor:
                read.add(name)
                return super().__getitem__(name)

        sent: set[str] = set()
        for round_index, shared in enumerate(states[:-1]):
            part = algo.for_devices(shared, round_index)
            sent |= part.keys()
            device = self.make(self.facts())  # which remembers nothing of the server's
            found = device.contribute(Read(part), batch_of(planted_rows()[0]), round_index)
            for name, contribution in algo.contribute(shared, users, round_index).items():
                assert torch.equal(found[name].norms(), contribution.norms())
        assert sent == read

    # ---- contributions against the slow oracle

    def test_norms_and_sums_equal_those_of_dense_rows(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        weights = torch.linspace(0.1, 1.3, len(odd))
        for round_index, shared in sampled_rounds:
            for query, part in self.pairs(algo, shared, odd, round_index):
                rows = torch.stack([part.dense(row) for row in range(len(odd))])
                assert close(part.norms(), rows.double().flatten(1).norm(dim=1), 1e-4), query.name
                total = torch.tensordot(weights.double(), rows.double(), dims=1)
                assert close(part.weighted_sum(weights), total), query.name
                lattice = query.lattice(USERS)
                running = torch.ones(query.shape, dtype=torch.int64)
                part.add_to(running, weights.double(), lattice)
                rounding = len(odd) * lattice.step  # each user's numbers are rounded to the lattice
                assert close(query.decode(running - 1, lattice), total, slack=rounding), query.name

    def test_a_user_of_weight_zero_leaves_no_trace(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        keep = [row for row in range(len(odd)) if row not in (0, 5)]
        weights = torch.ones(len(odd))
        weights[[0, 5]] = 0.0
        for round_index, shared in sampled_rounds:
            for query, part in self.pairs(algo, shared, odd, round_index):
                expected = torch.stack([part.dense(row) for row in keep]).sum(0)
                assert close(part.weighted_sum(weights), expected), query.name
                assert not part.weighted_sum(torch.zeros(len(odd))).any(), query.name

    def test_a_clipped_user_moves_the_sum_by_at_most_the_clip(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        for round_index, shared in sampled_rounds:
            for query, part in self.pairs(algo, shared, odd, round_index):
                norms = part.norms()
                for clip in (query.clip_norm, 0.01 * query.clip_norm):
                    factors = (clip / norms.clamp(min=1e-30)).clamp(max=1.0)
                    for row in range(len(odd)):
                        alone = torch.zeros(len(odd), dtype=torch.float64)
                        alone[row] = factors[row]
                        moved = part.weighted_sum(alone).double().norm()
                        assert moved <= clip * (1 + 1e-6), (query.name, row)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_the_integers_that_are_added_stay_within_the_clip(
        self, algo: Algorithm, sampled_rounds: Rounds, precision: Precision
    ) -> None:
        """However coarsely users compute, and without any allowance: what is measured is what is added."""
        odd = batch_of(edge_rows())
        for round_index, shared in sampled_rounds:
            with users_precision(precision, odd.device):
                pairs = self.pairs(algo, shared, odd, round_index)
            for query, part in pairs:
                for clip in (query.clip_norm, 0.3 * query.clip_norm, 0.01 * query.clip_norm):
                    lattice, weights = Lattice.of(clip, USERS), clip_weights(part, clip)
                    assert weights.isfinite().all()
                    for row in range(len(odd)):
                        alone, total = torch.zeros_like(weights), torch.zeros(query.shape, dtype=torch.int64)
                        alone[row] = weights[row]
                        part.add_to(total, alone, lattice)
                        assert query.decode(total, lattice).norm() <= clip * (1 + 1e-12), (query.name, row)

    # ---- users never mix

    def test_a_batch_of_one_equals_the_row_of_a_batch(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        for round_index, shared in sampled_rounds:
            together = dict(self.pairs_by_name(algo, shared, odd, round_index))
            for row in range(len(odd)):
                for name, part in self.pairs_by_name(algo, shared, odd.slice(row, row + 1), round_index):
                    assert close(part.dense(0), together[name].dense(row), self.exact_batches), (name, row)

    def test_changing_one_user_leaves_the_others(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        rows = edge_rows()
        other = [list(row) for row in rows]
        other[2] = [1, 2, 3, 30, 31, 32, 33]
        for round_index, shared in sampled_rounds:
            before = dict(self.pairs_by_name(algo, shared, batch_of(rows), round_index))
            for name, after in self.pairs_by_name(algo, shared, batch_of(other), round_index):
                for row in range(len(rows)):
                    if row != 2:
                        assert close(after.dense(row), before[name].dense(row), self.exact_batches), (name, row)

    def test_the_order_of_users_is_irrelevant(self, algo: Algorithm, sampled_rounds: Rounds) -> None:
        odd = batch_of(edge_rows())
        order = torch.randperm(len(odd), generator=torch.Generator().manual_seed(0))
        weights = torch.linspace(0.1, 1.3, len(odd))
        for round_index, shared in sampled_rounds:
            straight = dict(self.pairs_by_name(algo, shared, odd, round_index))
            for name, mixed in self.pairs_by_name(algo, shared, odd.take(order), round_index):
                assert close(mixed.norms(), straight[name].norms()[order], self.exact_batches), name
                assert close(mixed.weighted_sum(weights[order]), straight[name].weighted_sum(weights)), name

    def test_what_users_do_reaches_the_server_through_the_sums_alone(
        self, algo: Algorithm, users: UserBatch, sampled_rounds: Rounds
    ) -> None:
        """What `contribute` saw, kept in the algorithm itself, would go past clip and noise."""
        for round_index, shared in sampled_rounds:
            stranger = self.make(self.facts())  # has never met a user
            sums = {
                query.name: PrivateSum(part.weighted_sum(torch.ones(len(users))) + query.clip_norm, query.clip_norm)
                for query, part in self.pairs(algo, shared, users, round_index)
            }
            seen, unseen = (one.update(shared, sums, round_index) for one in (algo, stranger))
            assert seen.keys() == unseen.keys()
            assert all(torch.equal(seen[name], unseen[name]) for name in seen)
            released, expected = algo.release(seen).tensors(), stranger.release(unseen).tensors()
            assert released.keys() == expected.keys()
            assert all(torch.equal(released[name], expected[name]) for name in released)
            assert all(algo.queries(r) == stranger.queries(r) for r in range(algo.rounds))

    @staticmethod
    def pairs_by_name(
        algo: Algorithm, shared: Shared, users: UserBatch, round_index: int
    ) -> list[tuple[str, Contribution]]:
        return list(algo.contribute(shared, users, round_index).items())

    # ---- determinism

    def test_the_same_seed_gives_the_same_bits(self, users: UserBatch, states: list[Shared]) -> None:
        first = states[-1]
        again = self.train(self.make(self.facts()), users)
        assert first.keys() == again.keys()
        for name in first:
            assert torch.equal(first[name], again[name]), name

    def test_contribute_and_update_leave_their_arguments(
        self, algo: Algorithm, users: UserBatch, sampled_rounds: Rounds
    ) -> None:
        for round_index, shared in sampled_rounds:
            kept = {name: tensor.clone() for name, tensor in shared.items()}
            self.step(algo, shared, users, round_index)
            assert shared.keys() == kept.keys()
            assert all(torch.equal(shared[name], kept[name]) for name in kept)

    # ---- private looks between the rounds

    def test_looks_leave_the_training_as_it_is(self, algo: Algorithm, users: UserBatch) -> None:
        """With looks a run trains as without, on all but the newest events; from the first look on there is a model."""
        steps = algo.rounds - algo.preparation
        if steps < 2:
            return  # one look, at the end
        rule = StoppingConfig(every=max(1, steps // 2))
        looking = PrivateEvaluation(algo, PrivateEvaluationConfig(share=0.1, stopping=rule))
        assert len(looking.trained) >= 2
        shared, states = looking.initial(), {}
        for round_index in range(looking.rounds):
            shared = states[round_index] = self.step(looking, shared, users, round_index)
        known = users.without_newest(torch.ones_like(users.lengths))
        alone = self.train(self.make(looking.inner.facts), known)
        for name, tensor in alone.items():
            assert torch.equal(shared[name], tensor), name
        looks = looking.looks(shared)
        assert all(0 <= look["ndcg@10"] <= 1 for look in looks)
        kept = int(looks[looking.kept(shared)]["round"])
        released = looking.release(shared).tensors()
        expected = looking.inner.release(looking.inner_state(states[kept])).tensors()
        assert all(torch.equal(released[name], expected[name]) for name in expected)

    # ---- the released model

    @pytest.fixture(scope="class")
    def model(self, algo: Algorithm, states: list[Shared]) -> ReleasedModel:
        return algo.release(states[-1])

    def test_the_algorithm_is_found_by_its_name(self, algo: Algorithm) -> None:
        assert not self.installed or algorithm(algo.name) is type(algo)
