"""The contract that every algorithm keeps. A new algorithm inherits these tests and gives only its factory.

class TestALS(AlgorithmContract):
    def make(self, setting):
        return ALS(ALSConfig(dim=8, rounds=4), setting)
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm, Setting, Shared
from fedrec.algorithms.discover import algorithm
from fedrec.data.users import UserBatch
from fedrec.evaluation.private import PrivateEvaluation, PrivateEvaluationConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.model import ReleasedModel
from fedrec.precision import Precision, users_precision
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import Contribution, PrivateSum, SumQuery
from tests.core.model_contract import ModelContract
from tests.core.sums_contract import SumsContract
from tests.core.toy_users import ITEMS, USERS, batch_of, close, edge_rows, planted_catalogue, planted_rows
from tests.core.whole_algorithm import everything
from tests.other_device import needs_other_device, other_device


class AlgorithmContract(ModelContract, SumsContract):
    """Inherit, and give `make`. Class attributes say where an algorithm may differ; the model has its own contract."""

    asks_users = True
    """False for algorithms that learn nothing from users, and so release no popularity."""

    def make(self, setting: Setting) -> Algorithm:
        """The algorithm with a configuration small enough for toy data."""
        raise NotImplementedError

    # ---- what the tests below are made of

    def setting(self, **changes: object) -> Setting:
        base = Setting(planted_catalogue(), users=USERS, expected_cohort=float(USERS), seed=11)
        return replace(base, **changes)

    @pytest.fixture
    def algo(self) -> Algorithm:
        return self.make(self.setting())

    @pytest.fixture(scope="class")
    def users(self) -> UserBatch:
        return batch_of(planted_rows()[0])

    @staticmethod
    def step(algo: Algorithm, shared: Shared, users: UserBatch, round: int, noise: float = 0.0) -> Shared:
        """One round without a clip; `noise` is relative to each query's clip norm."""
        contributions = algo.contribute(shared, users, round)
        generator = torch.Generator().manual_seed(round)
        sums = {}
        for query in algo.queries(round):
            value = contributions[query.name].weighted_sum(torch.ones(len(users)))
            std = noise * query.clip_norm
            sums[query.name] = PrivateSum(value + std * torch.randn(value.shape, generator=generator), std)
        return algo.update(shared, sums, round)

    def train(self, algo: Algorithm, users: UserBatch, noise: float = 0.0) -> Shared:
        shared = algo.initial()
        for round in range(algo.rounds):
            shared = self.step(algo, shared, users, round, noise)
        return shared

    def each_round(self, algo: Algorithm, users: UserBatch) -> list[tuple[int, Shared]]:
        """The shared states before each round, in order."""
        states, shared = [], algo.initial()
        for round in range(algo.rounds):
            states.append((round, shared))
            shared = self.step(algo, shared, users, round)
        return states

    def sample_rounds(self, algo: Algorithm, users: UserBatch) -> list[tuple[int, Shared]]:
        """The first, a middle and the last round: rounds may ask for different sums."""
        states = self.each_round(algo, users)
        return [states[i] for i in sorted({0, len(states) // 2, len(states) - 1})] if states else []

    @staticmethod
    def pairs(algo: Algorithm, shared: Shared, users: UserBatch, round: int) -> list[tuple[SumQuery, Contribution]]:
        contributions = algo.contribute(shared, users, round)
        return [(query, contributions[query.name]) for query in algo.queries(round)]

    # ---- queries

    def test_shares_sum_to_at_most_one_over_the_run(self, algo: Algorithm) -> None:
        shares = [query.budget_share for round in range(algo.rounds) for query in algo.queries(round)]
        assert sum(shares) <= 1 + 1e-9
        assert not algo.rounds or sum(shares) > 0.5, "most of the budget lies unused"

    def test_queries_depend_on_the_setting_alone(self, algo: Algorithm) -> None:
        twin = self.make(self.setting())
        for round in range(algo.rounds):
            names = [query.name for query in algo.queries(round)]
            assert len(set(names)) == len(names)
            assert algo.queries(round) == twin.queries(round)

    def test_contributions_have_the_names_and_shapes_of_the_queries(self, algo: Algorithm, users: UserBatch) -> None:
        for round, shared in self.sample_rounds(algo, users):
            contributions = algo.contribute(shared, users, round)
            assert set(contributions) == {query.name for query in algo.queries(round)}
            for query in algo.queries(round):
                part = contributions[query.name]
                assert part.norms().shape == (len(users),)
                assert part.norms().dtype == torch.float64
                assert torch.equal(part.unit_weights(), torch.ones(len(users), dtype=torch.float64))
                total = part.weighted_sum(torch.ones(len(users)))
                assert total.shape == query.shape
                assert total.dtype == torch.float32
                assert part.dense(0).shape == query.shape

    def test_an_empty_history_adds_nothing(self, algo: Algorithm, users: UserBatch) -> None:
        for round, shared in self.sample_rounds(algo, users):
            for query, part in self.pairs(algo, shared, batch_of([[], []]), round):
                assert not part.dense(1).any(), query.name

    def test_its_model_is_called_by_its_name(self, algo: Algorithm, users: UserBatch) -> None:
        inner = getattr(algo, "inner", algo)
        assert algo.release(self.train(algo, users)).called == inner.name

    def test_devices_get_what_they_read_and_nothing_else(self, algo: Algorithm, users: UserBatch) -> None:
        read: set[str] = set()

        class Read(dict):
            def __getitem__(self, name: str) -> torch.Tensor:
                read.add(name)
                return super().__getitem__(name)

        sent: set[str] = set()
        for round, shared in self.each_round(algo, users):
            part = algo.for_devices(shared, round)
            sent |= part.keys()
            device = self.make(self.setting())  # which remembers nothing of the server's
            found = device.contribute(Read(part), batch_of(planted_rows()[0]), round)
            for name, contribution in algo.contribute(shared, users, round).items():
                assert torch.equal(found[name].norms(), contribution.norms())
        assert sent == read

    # ---- contributions against the slow oracle

    def test_norms_and_sums_equal_those_of_dense_rows(self, algo: Algorithm, users: UserBatch) -> None:
        odd = batch_of(edge_rows())
        weights = torch.linspace(0.1, 1.3, len(odd))
        for round, shared in self.sample_rounds(algo, users):
            for query, part in self.pairs(algo, shared, odd, round):
                rows = torch.stack([part.dense(row) for row in range(len(odd))])
                assert close(part.norms(), rows.double().flatten(1).norm(dim=1), 1e-4), query.name
                total = torch.tensordot(weights.double(), rows.double(), dims=1)
                assert close(part.weighted_sum(weights), total), query.name
                lattice = Lattice.of(query.clip_norm, USERS)
                running = torch.ones(query.shape, dtype=torch.int64)
                part.add_to(running, weights.double(), lattice)
                assert close(query.decode(running - 1, lattice), total), query.name

    def test_a_user_of_weight_zero_leaves_no_trace(self, algo: Algorithm, users: UserBatch) -> None:
        odd = batch_of(edge_rows())
        keep = [row for row in range(len(odd)) if row not in (0, 5)]
        weights = torch.ones(len(odd))
        weights[[0, 5]] = 0.0
        for round, shared in self.sample_rounds(algo, users):
            for query, part in self.pairs(algo, shared, odd, round):
                expected = torch.stack([part.dense(row) for row in keep]).sum(0)
                assert close(part.weighted_sum(weights), expected), query.name
                assert not part.weighted_sum(torch.zeros(len(odd))).any(), query.name

    def test_a_clipped_user_moves_the_sum_by_at_most_the_clip(self, algo: Algorithm, users: UserBatch) -> None:
        odd = batch_of(edge_rows())
        for round, shared in self.sample_rounds(algo, users):
            for query, part in self.pairs(algo, shared, odd, round):
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
        self, algo: Algorithm, users: UserBatch, precision: Precision
    ) -> None:
        """However coarsely users compute, and without any allowance: what is measured is what is added."""
        odd = batch_of(edge_rows())
        for round, shared in self.sample_rounds(algo, users):
            with users_precision(precision, odd.device):
                pairs = self.pairs(algo, shared, odd, round)
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

    def test_a_batch_of_one_equals_the_row_of_a_batch(self, algo: Algorithm, users: UserBatch) -> None:
        odd = batch_of(edge_rows())
        for round, shared in self.sample_rounds(algo, users):
            together = dict(self.pairs_by_name(algo, shared, odd, round))
            for row in range(len(odd)):
                for name, part in self.pairs_by_name(algo, shared, odd.slice(row, row + 1), round):
                    assert close(part.dense(0), together[name].dense(row), self.exact_batches), (name, row)

    def test_changing_one_user_leaves_the_others(self, algo: Algorithm, users: UserBatch) -> None:
        rows = edge_rows()
        other = [list(row) for row in rows]
        other[2] = [1, 2, 3, 30, 31, 32, 33]
        for round, shared in self.sample_rounds(algo, users):
            before = dict(self.pairs_by_name(algo, shared, batch_of(rows), round))
            for name, after in self.pairs_by_name(algo, shared, batch_of(other), round):
                for row in range(len(rows)):
                    if row != 2:
                        assert close(after.dense(row), before[name].dense(row), self.exact_batches), (name, row)

    def test_the_order_of_users_is_irrelevant(self, algo: Algorithm, users: UserBatch) -> None:
        odd = batch_of(edge_rows())
        order = torch.randperm(len(odd), generator=torch.Generator().manual_seed(0))
        weights = torch.linspace(0.1, 1.3, len(odd))
        for round, shared in self.sample_rounds(algo, users):
            straight = dict(self.pairs_by_name(algo, shared, odd, round))
            for name, mixed in self.pairs_by_name(algo, shared, odd.take(order), round):
                assert close(mixed.norms(), straight[name].norms()[order], self.exact_batches), name
                assert close(mixed.weighted_sum(weights[order]), straight[name].weighted_sum(weights)), name

    def test_what_users_do_reaches_the_server_through_the_sums_alone(self, algo: Algorithm, users: UserBatch) -> None:
        """What `contribute` saw, kept in the algorithm itself, would go past clip and noise."""
        for round, shared in self.sample_rounds(algo, users):
            stranger = self.make(self.setting())  # has never met a user
            sums = {
                query.name: PrivateSum(part.weighted_sum(torch.ones(len(users))) + query.clip_norm, query.clip_norm)
                for query, part in self.pairs(algo, shared, users, round)
            }
            seen, unseen = (one.update(shared, sums, round) for one in (algo, stranger))
            assert seen.keys() == unseen.keys()
            assert all(torch.equal(seen[name], unseen[name]) for name in seen)
            released, expected = algo.release(seen).tensors(), stranger.release(unseen).tensors()
            assert released.keys() == expected.keys()
            assert all(torch.equal(released[name], expected[name]) for name in released)
            assert all(algo.queries(r) == stranger.queries(r) for r in range(algo.rounds))

    @staticmethod
    def pairs_by_name(algo: Algorithm, shared: Shared, users: UserBatch, round: int) -> list[tuple[str, Contribution]]:
        return list(algo.contribute(shared, users, round).items())

    # ---- users of whom nothing is known

    def skewed_rows(self) -> tuple[list[list[int]], Tensor]:
        """Histories of seven items whose popularity falls in an order that is not the catalogue's; how often each
        occurs, (ITEMS,)."""
        generator = np.random.default_rng(9)
        chance = 1.0 / (1 + generator.permutation(ITEMS))
        chance /= chance.sum()
        rows = [[int(i) for i in generator.choice(ITEMS, 7, replace=False, p=chance)] for _ in range(USERS)]
        return rows, torch.bincount(torch.tensor(rows).flatten(), minlength=ITEMS)

    @pytest.mark.parametrize("private", [False, True])
    def test_a_user_without_history_gets_what_is_popular(self, private: bool) -> None:
        rows, counts = self.skewed_rows()
        algo = self.make(self.setting(mu=50.0) if private else self.setting())
        model = algo.release(self.train(algo, batch_of(rows), 1e-3 if private else 0.0))
        listed, scores = model.recommend(batch_of([[], rows[0], []]), 8)
        assert torch.equal(listed[0], listed[2])
        assert torch.equal(scores[0], model.recommend(batch_of([[]]), 8)[1][0])
        if self.asks_users:
            assert counts[listed[0]].tolist() == counts.sort(descending=True).values[:8].tolist()
        again = type(model).restore(model.tensors(), json.loads(json.dumps(model.manifest())))
        assert torch.equal(again.recommend(batch_of([[]]), 8)[0][0], listed[0])
        candidates = torch.arange(ITEMS)[None].flip(1)
        state = model.fit(batch_of([[]]))
        assert torch.equal(model.score(state, candidates).flip(1), model.score(state))

    # ---- edge cases

    @pytest.mark.parametrize(
        "rows",
        [
            [[]],
            [[], []],
            [[0]],
            [list(range(ITEMS))],
            [list(range(ITEMS))] * 3,
            [[2] * 50],
            [[], [3], list(range(ITEMS))],
        ],
        ids=["empty", "all empty", "one item", "all items", "all items, all users", "one item 50 times", "mixed"],
    )
    def test_awkward_histories_give_finite_numbers(
        self, algo: Algorithm, users: UserBatch, rows: list[list[int]]
    ) -> None:
        odd = batch_of(rows)
        for round, shared in self.sample_rounds(algo, users):
            for query, part in self.pairs(algo, shared, odd, round):
                assert part.norms().isfinite().all(), query.name
                assert part.weighted_sum(torch.ones(len(odd))).isfinite().all(), query.name
            assert all(tensor.isfinite().all() for tensor in self.step(algo, shared, odd, round).values())
        model = algo.release(self.train(algo, users))
        assert model.score(model.fit(odd)).isfinite().all()

    def test_a_run_on_awkward_users_alone_stays_finite(self, algo: Algorithm) -> None:
        for rows in ([[]], [[0]], [list(range(ITEMS))] * 2):
            odd = batch_of(rows)
            model = algo.release(self.train(algo, odd))
            assert model.score(model.fit(odd)).isfinite().all()

    @pytest.mark.parametrize("noise", [1.0, 100.0, 1e4])
    def test_heavy_noise_leaves_everything_finite(self, users: UserBatch, noise: float) -> None:
        algo = self.make(self.setting(mu=1.0 / noise))
        shared = self.train(algo, users, noise)
        assert all(tensor.isfinite().all() for tensor in shared.values())
        odd = batch_of(edge_rows())
        model = algo.release(shared)
        assert model.score(model.fit(odd)).isfinite().all()

    # ---- devices

    @needs_other_device
    def test_another_device_gives_what_the_cpu_gives(self) -> None:
        with other_device() as device:
            self.compare_with_the_cpu(device)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_gives_what_the_cpu_gives(self) -> None:
        self.compare_with_the_cpu(torch.device("cuda"))

    def compare_with_the_cpu(self, device: torch.device) -> None:
        setting = self.setting(device=device)
        found = everything(lambda: self.make(setting), batch_of(edge_rows(), device=device))
        expected = everything(lambda: self.make(self.setting()), batch_of(edge_rows()))
        assert {name for name, tensor in found.items() if tensor.device.type != device.type} == set()
        for name, tensor in expected.items():
            if name.startswith(("norms", "scores")):  # eigenvectors may differ in sign
                assert close(found[name].cpu(), tensor, 1e-2), name

    # ---- determinism

    def test_the_same_seed_gives_the_same_bits(self, users: UserBatch) -> None:
        first = self.train(self.make(self.setting()), users)
        again = self.train(self.make(self.setting()), users)
        assert first.keys() == again.keys()
        for name in first:
            assert torch.equal(first[name], again[name]), name

    def test_contribute_and_update_leave_their_arguments(self, algo: Algorithm, users: UserBatch) -> None:
        for round, shared in self.sample_rounds(algo, users):
            kept = {name: tensor.clone() for name, tensor in shared.items()}
            self.step(algo, shared, users, round)
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
        for round in range(looking.rounds):
            shared = states[round] = self.step(looking, shared, users, round)
        known = users.without_newest(torch.ones_like(users.lengths))
        alone = self.train(self.make(looking.inner.setting), known)
        for name, tensor in alone.items():
            assert torch.equal(shared[name], tensor), name
        looks = looking.looks(shared)
        assert all(0 <= look["ndcg@10"] <= 1 for look in looks)
        kept = int(looks[looking.kept(shared)]["round"])
        released = looking.release(shared).tensors()
        expected = looking.inner.release(looking._inner_state(states[kept])).tensors()
        assert all(torch.equal(released[name], expected[name]) for name in expected)

    # ---- the released model

    @pytest.fixture(scope="class")
    def model(self, users: UserBatch) -> ReleasedModel:
        algo = self.make(self.setting())
        return algo.release(self.train(algo, users))

    def test_the_algorithm_is_found_by_its_name(self, algo: Algorithm) -> None:
        assert algorithm(algo.name) is type(algo)
